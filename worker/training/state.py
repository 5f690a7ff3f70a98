"""Where a run stands, beside its learner: everything the loop itself has to remember to go on as if nothing
happened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nightshift.metrics import sense
from shared.specs.training import EarlyStopping
from worker.training.learner import Array
from worker.training.numerics.perplexity import perplexity


@dataclass
class Best:
    """The best model so far by the watched metric, and how long nothing better has come."""

    value: float | None = None
    step: int | None = None
    stale: int = 0  # validations since
    trained: dict[str, float] = field(default_factory=dict)  # the means of its epoch
    weights: dict[str, Array] | None = None  # canonical, float32

    def improves(self, metric: str, value: float, min_delta: float) -> bool:
        if self.value is None:
            return value == value  # nan is no beginning
        gain = value - self.value if sense(metric) == "max" else self.value - value
        return gain > min_delta


@dataclass
class RunState:
    step: int = 0  # optimizer steps done
    stopped_early: bool = False
    best: Best = field(default_factory=Best)
    row_step: int = 0  # of the last metric row
    #: Sums of this epoch's training metrics, weighted by steps, and the steps they cover. A step on a smaller batch
    #: counts as its share of a whole one, so that each row of the data weighs the same.
    epoch_sums: dict[str, float] = field(default_factory=dict)
    epoch_steps: float = 0.0
    #: The means of the last epoch that ended.
    trained: dict[str, float] = field(default_factory=dict)
    #: Every metric row so far, as [step, value]: the curves of a resumed run are whole.
    history: dict[str, list[list[float]]] = field(default_factory=dict)

    def add_row(self, means: Mapping[str, float], steps: float) -> None:
        """Note the means since the last row, which were so many steps ago."""
        self.row_step = self.step
        for name, value in means.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value * steps
        self.epoch_steps += steps

    def end_epoch(self) -> dict[str, float]:
        """The means over the epoch, or over what was seen of it."""
        means = {name: total / self.epoch_steps for name, total in self.epoch_sums.items()}
        if "perplexity" in means:  # is that of the mean loss; a mean of perplexities is none
            means["perplexity"] = perplexity(means["loss"])
        self.epoch_sums, self.epoch_steps, self.trained = {}, 0.0, means
        return dict(means)

    def judge(self, watched: EarlyStopping, values: Mapping[str, float]) -> bool:
        """Note one validation; True when it is the best so far."""
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
        """What was measured of the run's model, the best one where there is one: its validation, and as `train_…` the
        means over the epoch it came out of. What was measured of other weights is left out, as is what is not
        finite."""
        has_best = self.best.weights is not None
        step, trained = (self.best.step, self.best.trained) if has_best else (self.step, self.trained)
        found = {
            name: rows[-1][1]
            for name, every in self.history.items()
            if name.startswith("val_") and (rows := [row for row in every if row[0] == step])
        }
        found |= {f"train_{name}": value for name, value in trained.items() if name != "learning_rate"}
        return {name: value for name, value in found.items() if math.isfinite(value)}
