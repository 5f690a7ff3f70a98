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
    """Return metrics and document of the test part; `arrays` holds the images of the prediction grid."""
    if splits.test is None:
        return Evaluation({})
    probabilities = learner.predict(splits.test["x"], BATCH_SIZE)
    return evaluated(probabilities, np.asarray(splits.test["y"]), list(splits.facts["classes"]), splits.test["x"])


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
