"""The gang of this process: the ranks that train one model together, each on a device of its own.

Each rank takes its slice of a step's rows. What is not the same on all ranks by itself (time, requests, measurements)
is decided by the leader, rank 0, which alone reports and writes checkpoints. A process joins its gang before it builds
a learner; one that joins none is alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Learner
from shared.errors import UnsupportedJob
from worker.runners.messages import Champion
from worker.training.numerics.data_order import rng_seed
from worker.training.state import RunState

T = TypeVar("T")
Rows = npt.NDArray[np.int64]


class Gang(Protocol):
    """The ranks that train together, as one of them sees them."""

    rank: int
    size: int
    #: The share of the step's rows that this rank computes; its gradients count so much.
    weight: float

    def agree(self, value: T) -> T:
        """Return the leader's value. All ranks must call it at the same point of the run."""
        ...


class Alone:
    """The only rank."""

    rank, size, weight = 0, 1, 1.0

    def agree(self, value: T) -> T:
        return value


_current: Gang = Alone()


def current() -> Gang:
    """Return the gang of this process."""
    return _current


def join(gang: Gang) -> None:
    """Let this process be a rank of a gang."""
    global _current
    _current = gang


@contextmanager
def alone() -> Iterator[None]:
    """Let learners that are built in the block train on this rank alone: not all ranks may do so, or at one time."""
    gang = _current
    join(Alone())
    try:
        yield
    finally:
        join(gang)


def decided(gang: Gang, decide: Callable[[], T]) -> T:
    """Return what the leader decides or measures; the others wait for it."""
    return gang.agree(decide() if gang.rank == 0 else None)  # type: ignore[return-value]


def train_step(gang: Gang, learner: Any, rows: Rows, step: int) -> None:
    """Run a step of a learner on this rank's slice of the rows.

    Without any, as in a small last batch of an epoch, the rank computes a row that counts nothing, because all ranks
    must take part in each step.
    """
    mine = np.array_split(rows, gang.size)[gang.rank]
    gang.weight = len(mine) / len(rows)
    if len(mine):
        learner.train_step(mine, step)
        return
    sums = learner.totals.clone()
    learner.train_step(rows[:1], step)
    learner.totals.copy_(sums)


def make_own_draws(gang: Gang, learner: Any) -> None:
    """Give each rank random numbers of its own from here on. The leader's are those of a learner that is alone.

    Raises UnsupportedJob for a learner that cannot train in a gang.
    """
    if gang.size == 1:
        return
    if getattr(learner, "gang", None) is not gang:
        raise UnsupportedJob(f"{type(learner).__name__} trains on one device; leave resources.devices out")
    if gang.rank:
        seed = rng_seed(learner.training.seed, "rank", gang.rank) % 2**32
        learner.training = learner.training.model_copy(update={"seed": seed})


class SilentReporter:
    """The reporter of a rank that is not the leader."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None

    def stop_requested(self) -> str | None:
        return None

    def agree(self, engine: str) -> str:
        return engine

    def champion(self) -> Champion:
        raise RuntimeError("only the leader of a gang compares models")


class FollowingWriter:
    """The checkpoint writer of a rank that is not the leader: it gives the leader its part of the state."""

    busy = False

    def save(self, learner: Learner, run: RunState, epoch: int) -> None:
        learner.state()

    def wait(self) -> None:
        return None
