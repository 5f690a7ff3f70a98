"""State of a run beside its learner: everything the training loop needs for an exact resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nightshift.families.learner import Array
from nightshift.families.training import EarlyStopping, Training
from nightshift.metrics import sense
from worker.training.numerics.perplexity import perplexity


@dataclass
class Best:
    """The best model so far by the watched metric, and the validations since."""

    value: float | None = None
    step: int | None = None
    stale: int = 0  # validations since
    trained: dict[str, float] = field(default_factory=dict)  # the means of its epoch
    weights: dict[str, Array] | None = None  # canonical, float32

    def improves(self, metric: str, value: float, min_delta: float) -> bool:
        """Return whether a value is better than the best one by more than `min_delta`."""
        if self.value is None:
            return not math.isnan(value)
        gain = value - self.value if sense(metric) == "max" else self.value - value
        return gain > min_delta


@dataclass
class Plateau:
    """The state of `lr_schedule: plateau`."""

    factor: float = 1.0  # of the schedule's rate
    stale: int = 0  # validations since the metric improved or the rate fell

    def falls(self, training: Training, *, improved: bool) -> bool:
        """Count a validation and return whether the rate falls because of it."""
        self.stale = 0 if improved else self.stale + 1
        if self.stale < training.lr_patience:
            return False
        self.stale = 0
        before = self.factor
        self.factor = min(before, max(before * training.lr_factor, training.lr_min / training.learning_rate))
        return self.factor < before


@dataclass
class RunState:
    """The state of a run, saved with each checkpoint."""

    step: int = 0  # optimizer steps done
    stopped_early: bool = False
    best: Best = field(default_factory=Best)
    plateau: Plateau = field(default_factory=Plateau)
    row_step: int = 0  # of the last metric row
    #: Sums of this epoch's training metrics, weighted by steps, and the steps they cover. A smaller batch counts as
    #: a fraction of a step, so that all rows of the data have the same weight.
    epoch_sums: dict[str, float] = field(default_factory=dict)
    epoch_steps: float = 0.0
    #: The means of the last epoch that ended.
    trained: dict[str, float] = field(default_factory=dict)
    #: All metric rows so far, as [step, value], for complete curves after a resume.
    history: dict[str, list[list[float]]] = field(default_factory=dict)

    def add_row(self, means: Mapping[str, float], steps: float) -> None:
        """Add a metric row: means over the steps since the last row."""
        self.row_step = self.step
        for name, value in means.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value * steps
        self.epoch_steps += steps

    def end_epoch(self) -> dict[str, float]:
        """Return the means over the epoch (or the part of it that was trained on) and start the next."""
        means = {name: total / self.epoch_steps for name, total in self.epoch_sums.items()}
        if "perplexity" in means:  # of the mean loss; a mean of perplexities is not a perplexity
            means["perplexity"] = perplexity(means["loss"])
        self.epoch_sums, self.epoch_steps, self.trained = {}, 0.0, means
        return dict(means)

    def record_validation(self, watched: EarlyStopping, values: Mapping[str, float]) -> bool:
        """Record a validation and return whether it is the best so far."""
        value = values.get(watched.metric)
        if value is None:
            return False
        if self.best.improves(watched.metric, value, watched.min_delta):
            self.best.value, self.best.step, self.best.stale = value, self.step, 0
            self.best.trained = self.trained
            return True
        self.best.stale += 1
        return False

    def figures(self) -> dict[str, float]:
        """Return the finite metrics of the run's best (else last) model.

        These are its validation and, as `train_…`, the means over its epoch. Metrics of other weights are left out.
        """
        has_best = self.best.weights is not None
        step, trained = (self.best.step, self.best.trained) if has_best else (self.step, self.trained)
        found = {
            name: rows[-1][1]
            for name, every in self.history.items()
            if name.startswith("val_") and (rows := [row for row in every if row[0] == step])
        }
        found |= {f"train_{name}": value for name, value in trained.items() if name != "learning_rate"}
        return {name: value for name, value in found.items() if math.isfinite(value)}
