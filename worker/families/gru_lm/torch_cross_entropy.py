"""Cross-entropy in torch with a hand-written gradient.

`chunked_cross_entropy` never holds the logits of all positions: with a vocabulary over 10,000 they would be by far the
largest tensor of the step, and on a CPU fetching them from memory would cost more than the products.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from worker.training.backends.torch_cells import column_sums

#: Logits computed at once (numbers). Too low: weights are fetched too often. Too high: logits leave the cache.
CHUNK_LOGITS = 16_000_000

#: Numbers from 0 on are in the order of their bits, whose largest is found in half the time in bfloat16.
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of -log softmax(hidden @ weight.T + bias)[target], and how many targets were the most likely.

    The gradients are computed with the mean. hidden [n, h] has any float dtype, in which the products are computed;
    weight [v, h] and bias [v] are float32; targets int64 [n].
    """
    found = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return cast("tuple[Tensor, Tensor]", found)


def chunks(n: int, vocabulary: int) -> list[slice]:
    """Return slices of n positions that have about CHUNK_LOGITS logits each."""
    size = max(1, CHUNK_LOGITS // vocabulary)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        n, vocabulary = len(hidden), len(weight)
        w, b = weight.to(hidden.dtype), bias.to(hidden.dtype)
        loss, hits = torch.zeros((), device=hidden.device), torch.zeros((), dtype=torch.int64, device=hidden.device)
        d_hidden, d_weight, d_bias = torch.empty_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias)
        slices = chunks(n, vocabulary)
        logits = hidden.new_empty(slices[0].stop, vocabulary)
        d_w = torch.empty_like(w)
        rows = torch.arange(slices[0].stop, device=hidden.device) * vocabulary
        bits = _BITS[hidden.dtype]
        for part in slices:
            x, size = hidden[part], part.stop - part.start
            p = torch.addmm(b, x, w.t(), out=logits[:size])
            torch.softmax(p, -1, out=p)
            flat, at = p.view(-1), rows[:size] + targets[part]
            hit = flat[at]
            hits += (hit.view(bits) >= p.view(bits).amax(1)).sum()
            loss -= hit.float().clamp_min(1e-38).log_().sum()
            flat[at] = hit - 1  # p is now the gradient of this chunk's summed loss by its logits
            torch.mm(p, w, out=d_hidden[part])
            d_weight += torch.mm(p.t(), x, out=d_w)
            d_bias += column_sums(p)
        scale = 1 / n
        ctx.save_for_backward(d_hidden.mul_(scale), d_weight.mul_(scale), d_bias.mul_(scale))
        ctx.mark_non_differentiable(hits)
        return loss * scale, hits

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        return d_hidden * d_loss.to(d_hidden.dtype), d_weight * d_loss, d_bias * d_loss, None
