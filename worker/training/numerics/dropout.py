"""Dropout masks in numpy for the CPU, the same in both frameworks.

Two random bytes per element are several times as cheap as a framework's Bernoulli draw. SFC64 is the fastest generator
of numpy; it needs no counter like Philox, because each step has its own seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from worker.training.numerics.data_order import rng_seed


def dropout_mask(seed: int, purpose: str, step: int, shape: Sequence[int], share: float) -> npt.NDArray[np.bool_]:
    """Return a mask that is True for `share` of the elements (to within 1 / 65536)."""
    draw = np.random.Generator(np.random.SFC64(rng_seed(seed, purpose, step)))
    noise = np.frombuffer(draw.bytes(2 * math.prod(shape)), np.uint16).reshape(shape)
    return noise < round(share * 65_536)


def layer_masks(seed: int, step: int, shapes: Iterable[Sequence[int]], share: float) -> list[npt.NDArray[np.bool_]]:
    """Return the masks of a step for layers with outputs of these shapes."""
    return [dropout_mask(seed, f"dropout{i}", step, shape, share) for i, shape in enumerate(shapes)]
