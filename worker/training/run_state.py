"""Where a run stands, beside its learner: everything the loop itself has to remember to go on as if nothing happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.specs.training import EarlyStopping
from worker.training.learner import Array, LearnerState

#: Metrics of which more is better; of all others less is.
RISING = frozenset({"accuracy", "val_accuracy"})


@dataclass
class Best:
    """The best model so far by the watched metric, and how long nothing better has come."""

    value: float | None = None
    step: int | None = None
    stale: int = 0  # validations since
    weights: dict[str, Array] | None = None  # canonical, float32

    def improves(self, metric: str, value: float, min_delta: float) -> bool:
        if self.value is None:
            return value == value  # nan is no beginning
        gain = value - self.value if metric in RISING else self.value - value
        return gain > min_delta


@dataclass
class RunState:
    step: int = 0  # optimizer steps done
    stopped_early: bool = False
    best: Best = field(default_factory=Best)
    row_step: int = 0  # of the last metric row
    #: Sums of this epoch's training metrics, weighted by steps, and the steps they cover.
    epoch_sums: dict[str, float] = field(default_factory=dict)
    epoch_steps: int = 0
    #: Every metric row so far, as [step, value]: the curves of a resumed run are whole.
    history: dict[str, list[list[float]]] = field(default_factory=dict)

    def add_row(self, means: Mapping[str, float]) -> None:
        """Note the means of the steps since the last row."""
        steps, self.row_step = self.step - self.row_step, self.step
        for name, value in means.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value * steps
        self.epoch_steps += steps

    def end_epoch(self) -> dict[str, float]:
        means = {name: total / self.epoch_steps for name, total in self.epoch_sums.items()}
        self.epoch_sums, self.epoch_steps = {}, 0
        return means

    def judge(self, watched: EarlyStopping, values: Mapping[str, float]) -> bool:
        """Note one validation; True when it is the best so far."""
        value = values.get(watched.metric)
        if value is None:
            return False
        if self.best.improves(watched.metric, value, watched.min_delta):
            self.best.value, self.best.step, self.best.stale = value, self.step, 0
            return True
        self.best.stale += 1
        return False

    def facts(self) -> dict[str, Any]:
        """What of it fits into JSON; the best weights travel with the arrays."""
        return {
            "step": self.step,
            "stopped_early": self.stopped_early,
            "best": {"value": self.best.value, "step": self.best.step, "stale": self.best.stale},
            "row_step": self.row_step,
            "epoch_sums": dict(self.epoch_sums),
            "epoch_steps": self.epoch_steps,
            "history": {name: list(rows) for name, rows in self.history.items()},
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any], best_weights: dict[str, Array] | None) -> RunState:
        return cls(**{**facts, "best": Best(**facts["best"], weights=best_weights)})


@dataclass(frozen=True)
class Snapshot:
    """One moment of a run, in host memory: what a checkpoint holds."""

    run: Mapping[str, Any]  # RunState.facts()
    learner: LearnerState
    best_weights: Mapping[str, Array] | None
    epoch: int
    is_best: bool

    @property
    def step(self) -> int:
        return int(self.run["step"])
