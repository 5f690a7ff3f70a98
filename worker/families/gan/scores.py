"""Scores of generated samples: Fréchet distance, precision and recall between two sets of features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nightshift.families.learner import Array

#: k of the k-nearest-neighbor manifolds, as in the paper.
NEIGHBORS = 3
#: Rows of a distance matrix held at a time.
CHUNK = 1000


def frechet_distance(a: Array, b: Array) -> float:
    """Return the Fréchet distance between Gaussians fitted to features [n, d] and [m, d].

    |μ_a - μ_b|² + tr(C_a + C_b - 2 (C_a C_b)^½) (Heusel et al. 2017, eq. 6).
    Zero for equal sets; falls with n while n is small.
    """
    (mean_a, cov_a), (mean_b, cov_b) = _moments(a), _moments(b)
    root = _root(cov_a)
    mixed = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    squared = float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * mixed)
    return max(0.0, squared)


def _moments(features: Array) -> tuple[Array, Array]:
    rows = np.asarray(features, np.float64)
    centred = rows - rows.mean(axis=0)
    return rows.mean(axis=0), centred.T @ centred / max(1, len(rows) - 1)


def _root(cov: Array) -> Array:
    values, vectors = np.linalg.eigh(cov)
    rooted: Array = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return rooted


def precision_recall(real: Array, generated: Array, k: int = NEIGHBORS) -> tuple[float, float]:
    """Return (precision, recall) of generated features [m, d] against real ones [n, d].

    Precision is the share of generated points inside the manifold of the real ones (do they look real?), recall the
    share of real points inside that of the generated ones (is everything covered?) (Kynkäänniemi et al. 2019, eq. 1-2).
    A manifold is the union of balls that reach to each point's k-th neighbor.
    """
    return _share_inside(generated, real, k), _share_inside(real, generated, k)


def _share_inside(points: Array, manifold: Array, k: int) -> float:
    if len(manifold) <= k or not len(points):
        return 0.0
    # Index k, because each point's nearest neighbor is the point itself.
    reach = np.concatenate([np.partition(d, k, axis=1)[:, k] for d in _squared(manifold, manifold)])
    inside = [(d <= reach).any(axis=1) for d in _squared(points, manifold)]
    return float(np.concatenate(inside).mean())


def _squared(points: Array, manifold: Array) -> Iterator[Array]:
    """Yield squared distances [n, m] in chunks of rows."""
    points, manifold = np.asarray(points, np.float64), np.asarray(manifold, np.float64)
    lengths = (manifold**2).sum(axis=1)
    for at in range(0, len(points), CHUNK):
        part = points[at : at + CHUNK]
        yield np.maximum((part**2).sum(axis=1)[:, None] + lengths - 2 * part @ manifold.T, 0)
