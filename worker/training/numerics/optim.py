"""Learning rates and optimizer constants: pure functions, with the same meaning in both frameworks."""

from __future__ import annotations

import math
from typing import Any

from nightshift.families.training import Training

#: Each optimizer's constants beside learning rate and weight decay. `adamw` has decoupled weight decay (Loshchilov &
#: Hutter 2019); every other optimizer adds `weight_decay * weight` to the gradient.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "adam": {"betas": (0.9, 0.999), "eps": 1e-8},
    "adamw": {"betas": (0.9, 0.999), "eps": 1e-8},
    "rmsprop": {"alpha": 0.9, "eps": 1e-7},
    "adadelta": {"rho": 0.95, "eps": 1e-7},
}


def constants(training: Training) -> dict[str, Any]:
    """Return the optimizer's constants, with those the user set."""
    chosen = dict(OPTIMIZERS[training.optimizer])
    if training.beta1 is not None and "betas" in chosen:
        chosen["betas"] = (training.beta1, chosen["betas"][1])
    return chosen


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
