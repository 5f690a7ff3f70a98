"""Evaluation of a classifier of images on its test part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nightshift.families.learner import Array, Evaluation, Learner, Splits
from nightshift.families.training import Training
from worker.training.classification.evaluation import BATCH_SIZE, evaluate, surest_mistakes

#: Images in the 5x5 prediction grid.
GRID = 25


def report(learner: Learner, splits: Splits, model: Any, training: Training) -> Evaluation:
    """Return metrics and document of the test part; `arrays` holds the images of the prediction grid.

    `test_loss` is the cross-entropy of every model, so that models can be compared. One that minimizes another loss
    has that beside it.
    """
    if splits.test is None:
        return Evaluation({})
    probabilities, labels = learner.predict(splits.test["x"], BATCH_SIZE), np.asarray(splits.test["y"])
    found = evaluated(probabilities, labels, list(splits.facts["classes"]), splits.test["x"])
    if getattr(model, "loss", None) != "mean_squared_error":
        return found
    metrics = found.metrics | {"test_mean_squared_error": mean_squared_error(probabilities, labels)}
    return replace(found, metrics=metrics, document=found.document | {"metrics": metrics})


def mean_squared_error(probabilities: Array, labels: Array) -> float:
    """Return the mean over rows and classes of the squared differences of probabilities from one-hot labels.

    Of two classes it is also the mean over rows of one probability's.
    """
    return float(np.square(probabilities.astype(np.float64) - np.eye(probabilities.shape[1])[labels]).mean())


def evaluated(probabilities: Array, labels: Array, classes: list[str], pictures: Array) -> Evaluation:
    """Return the evaluation of probabilities [n, classes] against labels [n], with the prediction grid."""
    return replace(evaluate(probabilities, labels, classes), arrays=_grid(pictures, labels, probabilities))


def _grid(pictures: Array, labels: Array, probabilities: Array) -> dict[str, Array]:
    """Return the prediction grid: the most confident mistakes, then the first rows of the set."""
    wrong = surest_mistakes(probabilities, labels)
    others = np.setdiff1d(np.arange(min(len(labels), 2 * GRID)), wrong)
    rows = np.concatenate([wrong, others])[:GRID]
    return {
        "pictures": np.stack([pictures[row] for row in rows]) if len(rows) else np.empty((0, 1, 1, 1), np.uint8),
        "labels": labels[rows], "predicted": probabilities.argmax(axis=1)[rows],
        "confidence": probabilities.max(axis=1)[rows],
    }  # fmt: skip
