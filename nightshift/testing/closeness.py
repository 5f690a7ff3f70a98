"""When two runs count as equal: on a CPU to the last bit, on a GPU within a tolerance.

A GPU takes sums in another order each time, and every later step builds on the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.testing import devices

#: Largest difference on a GPU after a few steps, relative to the largest value of an array. A whole run of a trial has
#: one of its own (`Trial.gpu_tolerance`).
OF_STEPS = 1e-2


def equal(one: Any, other: Any, tolerance: float | None = None) -> bool:
    """Return whether numbers, arrays, or mappings and tuples of them are equal, by default as after a few steps."""
    if tolerance is None:
        tolerance = OF_STEPS if devices.kind() == "gpu" else 0.0
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(equal(one[name], other[name], tolerance) for name in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(equal(*both, tolerance) for both in zip(one, other, strict=True))
    if isinstance(one, np.ndarray):
        return _equal_arrays(one, np.asarray(other), tolerance)
    if isinstance(one, (int, float)) and isinstance(other, (int, float)) and tolerance:
        return bool(np.isclose(one, other, rtol=tolerance, atol=tolerance))
    return bool(one == other)


def _equal_arrays(one: Any, other: Any, tolerance: float) -> bool:
    """Compare bits (NaN equals NaN), or values relative to the largest one."""
    if not tolerance:
        return bool(one.tobytes() == other.tobytes())
    if one.shape != other.shape:
        return False
    finite = np.abs(np.asarray(other, np.float64)[np.isfinite(other)])
    within = tolerance * float(finite.max(initial=0.0))
    return bool(np.allclose(one, other, rtol=0, atol=within, equal_nan=True))
