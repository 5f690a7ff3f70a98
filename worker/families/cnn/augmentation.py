"""Random parameters of image augmentation, drawn in numpy so that both frameworks use the same ones.

The learners apply them: one bilinear resampling for shift, rotate and flip together, one mask for erase.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nightshift.families.learner import Array
from worker.training.numerics.data_order import generator

#: Largest shift (share of the image's side), rotation (degrees) and erased rectangle (share of the side).
SHIFT, ROTATE, ERASE = 0.1, 12.0, 0.4
GEOMETRIC = frozenset({"shift", "rotate", "flip"})


def affine(augment: Collection[str], seed: int, step: int, n: int) -> Array | None:
    """Return the affine transforms of a step as float32 [n, 2, 3], or None if none is requested.

    The matrices map output to input coordinates (x right, y down, both -1 … 1, as `torch.nn.functional.affine_grid`
    takes them). All random numbers are drawn even if `augment` does not use them.
    """
    if not GEOMETRIC.intersection(augment):
        return None
    shift, angle, flip = _draws(seed, step, n)
    x, y = shift.T * ("shift" in augment)
    angle = angle * ("rotate" in augment)
    mirror = np.where(flip & ("flip" in augment), -1.0, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([mirror * cos, -mirror * sin, x, sin, cos, y], axis=1).reshape(n, 2, 3).astype(np.float32)


def _draws(seed: int, step: int, n: int) -> tuple[Array, Array, Array]:
    draw = generator(seed, "augment", step)
    shift = draw.uniform(-2 * SHIFT, 2 * SHIFT, (n, 2))  # coordinates span 2
    angle = draw.uniform(-np.deg2rad(ROTATE), np.deg2rad(ROTATE), n)
    return shift, angle, draw.random(n) < 0.5


def erase_boxes(seed: int, step: int, n: int, height: int, width: int) -> Array:
    """Return the rectangle to erase in each image: int64 [n, 4] as top, bottom, left, right (exclusive)."""
    draw = generator(seed, "erase", step)
    side = np.array([height, width])
    size = np.maximum(1, (draw.uniform(0, ERASE, (n, 2)) * side)).astype(np.int64)
    start = (draw.random((n, 2)) * (side - size + 1)).astype(np.int64)
    return np.stack([start[:, 0], start[:, 0] + size[:, 0], start[:, 1], start[:, 1] + size[:, 1]], axis=1)
