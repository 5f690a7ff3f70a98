"""Per-example scores of a classifier, for bootstrapping.

Every metric is a function of how often each row is counted, so that resampling is a few matrix products. With each row
counted once the metrics equal scikit-learn's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nightshift.families.learner import Array, Learner, Splits
from worker.training.classification.evaluation import BATCH_SIZE


def examples(learner: Learner, splits: Splits, model: object) -> PredictionScores:
    """Return the scores of each row of the test part."""
    assert splits.test is not None, "every image set has a test part"
    return PredictionScores(learner.predict(splits.test["x"], BATCH_SIZE), np.asarray(splits.test["y"]))


@dataclass(frozen=True)
class PredictionScores:
    """Scores from probabilities [n, classes] and labels [n].

    Macro means run over the classes that have rows, so a model that knows more classes is not at a disadvantage.
    """

    probabilities: Array
    labels: Array
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", len(self.labels))

    def incomparable(self, other: PredictionScores) -> str | None:
        return None

    def score(self, metric: str) -> float:
        return float(self.resampled(metric, np.ones((1, self.rows)))[0])

    def resampled(self, metric: str, counts: Array) -> Array:
        match metric:
            case "test_accuracy":
                return _mean(self._predicted() == self.labels, counts)
            case "test_loss":
                chosen = self.probabilities[np.arange(self.rows), self.labels].astype(np.float64)
                return _mean(-np.log(np.clip(chosen, 1e-12, 1.0)), counts)
            case "auc_macro_ovr":
                areas = [self._area(label, counts) for label in np.unique(self.labels)]
                return np.asarray(np.nanmean(areas, axis=0))
        return self._macro(metric, counts)

    def _predicted(self) -> Array:
        found: Array = self.probabilities.argmax(axis=1)
        return found

    def _macro(self, metric: str, counts: Array) -> Array:
        present = np.unique(self.labels)
        is_class, is_predicted = self.labels[:, None] == present, self._predicted()[:, None] == present
        hits, predicted, actual = (
            counts @ part.astype(np.float64) for part in (is_class & is_predicted, is_predicted, is_class)
        )
        over = {"precision_macro": predicted, "recall_macro": actual, "f1_macro": (predicted + actual) / 2}[metric]
        return np.asarray(np.divide(hits, over, out=np.zeros_like(hits), where=over > 0).mean(axis=1))

    def _area(self, label: int, counts: Array) -> Array:
        """Return the area under the ROC curve of one class against the rest, for each resample.

        It is NaN where a resample has rows of one side only.
        """
        scores = self.probabilities[:, label]
        order = np.argsort(scores, kind="stable")
        first = np.flatnonzero(np.diff(scores[order], prepend=-1.0))  # of each group of equal scores
        ordered, is_class = counts[:, order], (self.labels == label)[order]
        inside, outside = (np.add.reduceat(ordered * side, first, axis=1) for side in (is_class, ~is_class))
        below = outside.cumsum(axis=1) - outside / 2
        pairs = inside.sum(axis=1) * outside.sum(axis=1)
        ordered_pairs = (inside * below).sum(axis=1)
        return np.asarray(np.divide(ordered_pairs, pairs, out=np.full(len(counts), np.nan), where=pairs > 0))


def _mean(values: Array, counts: Array) -> Array:
    return np.asarray(counts @ values.astype(np.float64) / counts.sum(axis=1))
