"""Base class of the learners in both frameworks: what they know of the job, and how metrics are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from nightshift.families.learner import Array, LearnerSetup, LearnerState
from worker.training.backends.batches import one_late
from worker.training.numerics.norms import RUNNING
from worker.training.numerics.optim import learning_rate

T = TypeVar("T")


class BaseLearner:
    """The part of a learner without a framework."""

    #: The metrics of a step. `totals`, on the device, sums each of them over rows, and then the number of rows.
    MEASURED: ClassVar[tuple[str, ...]]
    #: The model's weights, in the framework's layout.
    tensors: Mapping[str, Any]

    def __init__(self, setup: LearnerSetup) -> None:
        self.model, self.training, self.total_steps = setup.model, setup.training, setup.total_steps
        self.device_kind = setup.device
        self.frozen = tuple(setup.facts.get("frozen", ()))
        self.rate_factor = 1.0
        self.rate = self.rate_at(0)

    def scale_rate(self, factor: float) -> None:
        self.rate_factor = factor

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.rate_factor * learning_rate(self.training, step, self.total_steps)

    def read_metrics(self) -> dict[str, float]:
        *sums, n = self._take_totals()
        return {**self._named(*(total / n for total in sums)), "learning_rate": self.rate} if n else {}

    def _named(self, *means: float) -> dict[str, float]:
        return dict(zip(self.MEASURED, means, strict=True))

    def _take_totals(self) -> list[float]:
        """Return `totals` and set them to 0."""
        raise NotImplementedError

    def load_state(self, state: LearnerState) -> None:
        raise NotImplementedError

    def weights(self) -> dict[str, Array]:
        raise NotImplementedError

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        raise NotImplementedError

    def _late(self, begun: Iterable[T]) -> Iterable[T]:
        """Return what to fetch: on a device each batch after the next one has begun, on a CPU at once."""
        return begun if self.device_kind == "cpu" else one_late(begun)

    def _is_frozen(self, name: str) -> bool:
        return bool(self.frozen) and name.startswith(self.frozen)

    def _learns(self, name: str) -> bool:
        """Return whether a weight is trained."""
        return not (RUNNING in name or self._is_frozen(name))
