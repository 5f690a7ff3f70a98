"""Paired bootstrap for comparing two models on the same rows (Efron 1979; Koehn 2004)."""

from __future__ import annotations

import numpy as np

from nightshift.families.learner import Array, PerExampleScores

#: Too low: the bound depends on the seed. Too high: seconds without benefit.
RESAMPLES = 2000
#: Most elements of the matrix of counts in memory at a time.
_MAX_COUNTS = 8_000_000
_SEED = 20_240_101


def lower_bound(
    candidate: PerExampleScores, champion: PerExampleScores, metric: str, sign: int, confidence: float
) -> float:
    """Return the improvement that is exceeded with this (one-sided) confidence.

    It is a quantile over resamples of the rows, the same rows for both models. The seed is fixed: the same scores give
    the same bound.
    """
    n, rng = candidate.rows, np.random.Generator(np.random.Philox(key=_SEED))
    gains: list[Array] = []
    left, at_once = RESAMPLES, max(1, _MAX_COUNTS // n)
    while left > 0:
        counts = _draw_counts(rng, min(left, at_once), n)
        gains.append(sign * (candidate.resampled(metric, counts) - champion.resampled(metric, counts)))
        left -= at_once
    return float(np.nanquantile(np.concatenate(gains), 1 - confidence))


def _draw_counts(rng: np.random.Generator, resamples: int, n: int) -> Array:
    """Return how often each of n rows is drawn in n draws: float64 [resamples, n]."""
    rows = rng.integers(0, n, (resamples, n)) + np.arange(resamples)[:, None] * n
    return np.bincount(rows.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
