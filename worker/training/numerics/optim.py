"""Learning rates and optimizer constants: pure, framework-neutral, the same meaning in both frameworks."""

from __future__ import annotations

import math
from typing import Any

from shared.specs.training import Training

#: Every optimizer's constants beside learning rate and weight decay. `adamw` decays weights apart from the gradient
#: (decoupled, Loshchilov & Hutter 2019); every other optimizer adds `weight_decay * weight` to the gradient.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "adam": {"betas": (0.9, 0.999), "eps": 1e-8},
    "adamw": {"betas": (0.9, 0.999), "eps": 1e-8},
    "rmsprop": {"alpha": 0.9, "eps": 1e-7},
    "adadelta": {"rho": 0.95, "eps": 1e-7},
}


def constants(training: Training) -> dict[str, Any]:
    """The optimizer's constants, with what the user says of them."""
    how = dict(OPTIMIZERS[training.optimizer])
    if training.beta1 is not None and "betas" in how:
        how["betas"] = (training.beta1, how["betas"][1])
    return how


#: One-cycle (Smith & Topin 2018): share of steps going up, and how far below the peak it begins and ends.
ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = 0.3, 25.0, 1e5


def learning_rate(training: Training, step: int, total_steps: int) -> float:
    """The rate of optimizer step `step` (from 0) of `total_steps`. `training.learning_rate` is the peak.

    `warmup_steps` rise linearly to the peak; under `onecycle` they are the length of its rise instead.
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
    """Half a cosine wave from `start` (part 0) to `end` (part 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(part, 0.0), 1.0))) / 2
