"""Choice of workers to start: one per GPU, else one for the CPU."""

from __future__ import annotations

from collections.abc import Callable

from nightshift.errors import ConfigurationError


def plan_workers(device: str, workers: int | None, gpus: Callable[[], int]) -> list[tuple[str, int]]:
    """Return [(device, index)]: `auto` uses all GPUs (at most `workers`), or the CPU if there is none.

    Several CPU workers share the cores: faster for many small jobs, slower for one. Raises ConfigurationError.
    """
    found = gpus() if device in ("auto", "gpu") else 0
    if device == "gpu" and found == 0:
        raise ConfigurationError("--device gpu: the NVIDIA driver shows no GPU; use --device cpu or auto")
    if found and workers is not None and workers > found:
        raise ConfigurationError(f"--workers {workers}: this machine has {found} GPU(s), and each takes one worker")
    if found:
        return [("gpu", index) for index in range(workers or found)]
    return [("cpu", index) for index in range(workers or 1)]
