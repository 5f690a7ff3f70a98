"""Whether torch computes on the GPU of this process."""

from __future__ import annotations

import torch


def problem() -> str | None:
    """Return why torch does not work on the GPU; None: it does. Raises what torch raises."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"this build of torch ({torch.__version__}) has no CUDA; install one that has"
    if not torch.cuda.is_available():
        torch.cuda.init()  # type: ignore[no-untyped-call]  # raises the reason
        return "torch sees no GPU"
    device = torch.device("cuda", 0)
    square = torch.ones(64, 64, device=device)
    picture, kernel = torch.ones(1, 1, 8, 8, device=device), torch.ones(1, 1, 3, 3, device=device)
    product = (square @ square).sum().item()
    convolved = torch.nn.functional.conv2d(picture, kernel).sum().item()
    right = (product, convolved) == (64.0**3, 9.0 * 36)
    return None if right else f"wrong results: a product of {product} and a convolution of {convolved}"
