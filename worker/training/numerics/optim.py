"""Learning rates of steps: pure functions, with the same meaning in both frameworks."""

from __future__ import annotations

import math

from nightshift.families.training import Training

#: One-cycle (Smith & Topin 2018): share of rising steps, and the divisors of the peak at the start and end.
ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = 0.3, 25.0, 1e5


def learning_rate(training: Training, step: int, total_steps: int) -> float:
    """Return the rate of optimizer step `step` (from 0) of `total_steps`.

    `training.learning_rate` is the peak. `warmup_steps` rise linearly to it; under `onecycle` they are the length of
    its rise instead.
    """
    peak, warmup = training.learning_rate, training.warmup_steps
    if training.lr_schedule == "onecycle":
        return _onecycle(peak, step, total_steps, warmup)
    if step < warmup:
        return peak * (step + 1) / warmup
    if training.lr_schedule == "cosine":
        return _between(peak, 0.0, (step - warmup) / max(1, total_steps - warmup))
    return peak


def _onecycle(peak: float, step: int, total_steps: int, warmup: int) -> float:
    rise = max(1, min(warmup or round(ONECYCLE_RISE * total_steps), total_steps))
    if step < rise:
        return _between(peak / ONECYCLE_START, peak, step / rise)
    return _between(peak, peak / ONECYCLE_END, (step - rise) / max(1, total_steps - 1 - rise))


def _between(start: float, end: float, part: float) -> float:
    """Interpolate along half a cosine wave from `start` (part 0) to `end` (part 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(part, 0.0), 1.0))) / 2
