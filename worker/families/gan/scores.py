"""Scores of generated samples: Fréchet distance, precision and recall between two sets of features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nightshift.families.learner import Array

#: k of the k-nearest-neighbor manifolds, as in the paper.
NEIGHBORS = 3
#: Rows of a distance matrix held at a time. Too low: small products. Too high: it is read from memory again and again.
CHUNK = 250


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


class Manifold:
    """The union of balls around features [n, d], each of which reaches to its point's k-th neighbor.

    Empty if there are no k neighbors; k is `NEIGHBORS`.
    """

    def __init__(self, features: Array, reach: Array | None = None) -> None:
        """Compute the squared radii [n], unless they are given as `reach`."""
        self.features = features
        self.reach = _reach(features) if reach is None else reach

    def share_inside(self, points: Array) -> float:
        """Return the share of points [m, d] that lie in one of the balls."""
        if not len(self.reach) or not len(points):
            return 0.0
        inside = [(part <= self.reach).any(axis=1) for part in _squared(points, self.features)]
        return float(np.concatenate(inside).mean())


def precision_recall(real: Manifold, generated: Manifold) -> tuple[float, float]:
    """Return (precision, recall) of the features of generated images against those of real ones.

    Precision is the share of generated points inside the manifold of the real ones (do they look real?), recall the
    share of real points inside that of the generated ones (is everything covered?) (Kynkäänniemi et al. 2019, eq. 1-2).
    """
    return real.share_inside(generated.features), generated.share_inside(real.features)


def scores(real: Manifold, compared: Array) -> dict[str, float]:
    """Return all scores of features that are compared with those of real images."""
    precision, recall = precision_recall(real, Manifold(compared))
    distance = frechet_distance(real.features, compared)
    return {"frechet_distance": distance, "precision": precision, "recall": recall}


def _reach(features: Array) -> Array:
    """Return the squared distance of each point to its k-th neighbor: [n], or [0] if there are no k."""
    parts = _squared(features, features) if len(features) > NEIGHBORS else ()
    # Index k, because each point's nearest neighbor is the point itself.
    found = [np.partition(part, NEIGHBORS, axis=1)[:, NEIGHBORS] for part in parts]
    return np.concatenate([np.empty(0, np.float32), *found])


def _squared(points: Array, others: Array) -> Iterator[Array]:
    """Yield squared distances [n, m] in chunks of rows, in float32: only their order counts."""
    centre = np.asarray(others, np.float64).mean(axis=0)  # so that far away clouds keep their digits
    points, others = ((np.asarray(each, np.float64) - centre).astype(np.float32) for each in (points, others))
    lengths = (others**2).sum(axis=1)
    for at in range(0, len(points), CHUNK):
        part = points[at : at + CHUNK]
        found = part @ others.T
        found *= -2
        found += lengths
        found += (part**2).sum(axis=1)[:, None]
        yield found
