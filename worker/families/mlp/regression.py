"""Measures of predicted numbers, in the units of the target."""

from __future__ import annotations

import numpy as np

from nightshift.families.learner import Array


def measures(predicted: Array, wanted: Array, loss: str) -> dict[str, float]:
    """Return loss, R², mean absolute and root mean squared error.

    R² of targets that are all equal is not defined (NaN).
    """
    errors = predicted.astype(np.float64) - wanted
    squared, absolute = float(np.square(errors).mean()), float(np.abs(errors).mean())
    spread = float(np.square(wanted - wanted.mean()).mean())
    return {
        "loss": absolute if loss == "mean_absolute_error" else squared,
        "r2": 1 - squared / spread if spread > 0 else float("nan"),
        "mae": absolute,
        "rmse": squared**0.5,
    }
