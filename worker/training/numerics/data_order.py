"""Row order and random seeds as pure functions of (seed, purpose, step or epoch).

Philox is counter-based (Salmon et al. 2011), so any draw is available without the draws before it, and a resumed run
needs no generator state, only its step. Raw Philox output is stable across numpy versions; `Generator` methods are not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from shared.lazy_numpy import np
from shared.specs.training import held_out, steps_per_epoch

if TYPE_CHECKING:
    import numpy.typing as npt

Rows: TypeAlias = "npt.NDArray[np.int64]"


def rng_seed(seed: int, purpose: str, step: int) -> int:
    """Return a 63-bit seed for one purpose ("dropout", "augment", "init", …) at one step."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def philox(seed: int, purpose: str, step: int) -> np.random.Philox:
    """Return the bit generator for one purpose at one step."""
    return np.random.Philox(key=rng_seed(seed, purpose, step))


def generator(seed: int, purpose: str, step: int) -> np.random.Generator:
    """Return a numpy generator for one purpose at one step."""
    return np.random.Generator(philox(seed, purpose, step))


def permutation(seed: int, purpose: str, step: int, n: int) -> Rows:
    """Return a random permutation of `n` rows."""
    return np.argsort(philox(seed, purpose, step).random_raw(n), kind="stable").astype(np.int64, copy=False)


def epoch_order(seed: int, epoch: int, n: int) -> Rows:
    """Return the order of `n` rows in an epoch."""
    return permutation(seed, "order", epoch, n)


def validation_split(seed: int, n: int, share: float) -> tuple[Rows, Rows]:
    """Return (training rows, validation rows) of `n`, both ascending.

    There is at least one row on either side if `share` > 0.
    """
    taken = held_out(n, share)
    order = permutation(seed, "validation", 0, n)
    return np.sort(order[taken:]), np.sort(order[:taken])


@dataclass
class DataOrder:
    """The rows of every step. Each row occurs once an epoch; the last batch of an epoch may be smaller."""

    seed: int
    length: int
    batch_size: int
    rows: Rows | None = None  # the rows at the `length` positions; None: 0 … length - 1

    def __post_init__(self) -> None:
        self._epoch, self._order = -1, np.empty(0, np.int64)

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.length, self.batch_size)

    def batch(self, step: int) -> Rows:
        """Return the rows of a step (from 0)."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = epoch_order(self.seed, epoch, self.length)
            self._epoch, self._order = epoch, order if self.rows is None else self.rows[order]
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]
