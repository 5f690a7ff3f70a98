"""Dropout on a CPU: which numbers are dropped, in numpy, so that every framework drops the same ones.

Two random bytes a number are several times as cheap as a framework's Bernoulli draw. SFC64 and not Philox: its key is
the step's own seed, so it needs no counter, and it is the fastest numpy has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from worker.training.numerics.data_order import rng_seed


def dropout_mask(seed: int, purpose: str, step: int, shape: Sequence[int], share: float) -> npt.NDArray[np.bool_]:
    """True for `share` of the numbers (to within 1 / 65536)."""
    draw = np.random.Generator(np.random.SFC64(rng_seed(seed, purpose, step)))
    noise = np.frombuffer(draw.bytes(2 * math.prod(shape)), np.uint16).reshape(shape)
    return noise < round(share * 65_536)
