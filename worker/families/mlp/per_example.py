"""Per-example scores of a perceptron, for promotions: those of any classifier, or of predicted numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nightshift.families.learner import Array, Learner, Splits
from shared.errors import BadData
from worker.families.mlp.evaluation import BATCH_SIZE
from worker.families.mlp.family import JUDGED_BY, MlpModel
from worker.families.mlp.tasks import TableTask
from worker.training.classification.per_example import PredictionScores


def examples(learner: Learner, splits: Splits, model: MlpModel) -> ClassScores | NumberScores:
    """Return the scores of each row of the test part. Raises BadData if there is none."""
    if splits.test is None:
        raise BadData("the table has no test part")
    predicted, wanted = learner.predict(splits.test["x"], BATCH_SIZE), np.asarray(splits.test["y"])
    target = str(model.target)
    if splits.facts["preprocessing"]["task"] == "classes":
        return ClassScores(predicted, wanted, target)
    return NumberScores(predicted.astype(np.float64), wanted, target)


def _different(one: ClassScores | NumberScores, other: ClassScores | NumberScores) -> str | None:
    """Return why two models cannot be compared, or None."""
    if type(one) is not type(other):
        return "one predicts classes and the other numbers"
    if one.target != other.target:
        return f"one predicts {one.target!r} and the other {other.target!r}"
    return None


def _check(metric: str, task: TableTask) -> None:
    if metric not in JUDGED_BY[task]:
        raise BadData(f"a model of {task} has no {metric}; it is judged by {' or '.join(JUDGED_BY[task])}")


@dataclass(frozen=True)
class ClassScores(PredictionScores):
    """Scores of classes."""

    target: str

    def incomparable(self, other: PredictionScores) -> str | None:
        assert isinstance(other, ClassScores | NumberScores)
        return _different(self, other)

    def resampled(self, metric: str, counts: Array) -> Array:
        _check(metric, "classes")
        return super().resampled(metric, counts)


@dataclass(frozen=True)
class NumberScores:
    """Scores from predicted and true numbers [n]; all metrics are functions of sums over rows."""

    predicted: Array
    wanted: Array
    target: str
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", len(self.wanted))

    def incomparable(self, other: ClassScores | NumberScores) -> str | None:
        return _different(self, other)

    def score(self, metric: str) -> float:
        return float(self.resampled(metric, np.ones((1, self.rows)))[0])

    def resampled(self, metric: str, counts: Array) -> Array:
        _check(metric, "numbers")
        n, errors = counts.sum(axis=1), self.predicted - self.wanted
        if metric == "test_mae":
            return np.asarray(counts @ np.abs(errors) / n)
        squared = counts @ np.square(errors) / n
        if metric == "test_rmse":
            return np.asarray(np.sqrt(squared))
        around = self.wanted - self.wanted.mean()  # a sum of squares far from zero would lose its digits
        spread = counts @ np.square(around) / n - np.square(counts @ around / n)
        return np.asarray(1 - np.divide(squared, spread, out=np.full_like(squared, np.nan), where=spread > 0))
