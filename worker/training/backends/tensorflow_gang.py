"""A gang in TensorFlow: `tf.distribute.MirroredStrategy`, whose replicas are the ranks, all in this process.

A step runs on all devices at once, each on its slice of the rows. The gradient is that of the mean over the rows: each
replica's mean counts as much as it has rows. Weights are mirrored; what no optimizer trains (slots, statistics of batch
norm, states of random numbers) belongs to each replica, and the first one's is read and saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal, TypeVar

import tensorflow as tf

from nightshift.families.learner import Array
from worker.training import gang
from worker.training.backends import tensorflow_support as support
from worker.training.gang import Rows, own_totals, totals_of

T = TypeVar("T")
Tensor = Any


class TensorflowGang:
    """The replicas of a strategy over the first `size` devices that TensorFlow has."""

    #: This process has all ranks, so it leads and computes each row.
    rank, weight = 0, 1.0

    def __init__(self, device: Literal["cpu", "gpu"], size: int) -> None:
        self.device, self.size = device, size
        #: While a step is traced: the share of its rows that each replica computes.
        self._shares: dict[int, Tensor] = {}

    @cached_property
    def strategy(self) -> Any:
        """Return the strategy. It starts TensorFlow, so threads must have been set."""
        return tf.distribute.MirroredStrategy([f"/{self.device}:{number}" for number in range(self.size)])

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Create variables in the block on all devices."""
        with self.strategy.scope(), tf.variable_creator_scope(_on_each_device):
            yield

    def mine(self, rows: Rows) -> Rows:
        return rows

    def agree(self, value: T) -> T:
        return value

    # -- a step; the first three run while it is traced --------------------------------------------

    def replicated(self, step: Callable[..., Any]) -> Callable[..., None]:
        """Return a step on all devices, a function of each one's arguments and of each one's share of the rows."""

        def on_one(arguments: Sequence[Any], shares: Sequence[Tensor]) -> None:
            number = _replica()
            self._shares[number] = shares[number]
            step(*arguments[number])

        def on_all(arguments: Sequence[Any], shares: Sequence[Tensor]) -> None:
            self.strategy.run(on_one, args=(arguments, shares))

        return on_all

    def average(self, loss: Tensor, gradients: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the gang's loss and gradients."""
        share = self._shares[_replica()]
        ours = [share * tf.convert_to_tensor(one) for one in (loss, *gradients)]
        mean, *averaged = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, ours)
        return mean, averaged

    def counted(self, sums: Tensor) -> Tensor:
        """Return the sums of a replica's rows; one without rows computes a row that counts nothing."""
        return tf.where(self._shares[_replica()] > 0, sums, tf.zeros_like(sums))

    # -- the sums of each replica -------------------------------------------------------------------

    def totals_state(self, totals: Any) -> dict[str, Array]:
        """Return all replicas' sums for a checkpoint."""
        every = [support.to_numpy(one) for one in self.strategy.experimental_local_results(totals)]
        return totals_of(support.to_numpy(totals), every)

    def load_totals(self, totals: Any, arrays: Any) -> None:
        """Restore the sums of each replica."""
        for number, one in enumerate(self.strategy.experimental_local_results(totals)):
            one.assign(own_totals(arrays, self.size, number))


def current() -> TensorflowGang | None:
    """Return the gang of this process if it is one in TensorFlow, else None."""
    found = gang.current()
    return found if isinstance(found, TensorflowGang) else None


def _on_each_device(create: Callable[..., Any], **settings: Any) -> Any:
    """Create a variable whose value, where it is asked for outside a step, is that of the first replica."""
    if settings.get("aggregation") in (None, tf.VariableAggregation.NONE):
        settings["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    if settings.get("trainable") is False:
        settings["synchronization"] = tf.VariableSynchronization.ON_READ
    return create(**settings)


def _replica() -> int:
    """Return the number of the replica that is traced."""
    return int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))
