"""Evaluation of a perceptron on the test part of a table: as of any classifier, or of predicted numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nightshift.families.learner import Array, Evaluation, Learner, Splits
from nightshift.families.training import Training
from worker.families.mlp.family import MlpModel
from worker.families.mlp.regression import measures
from worker.families.mlp.tasks import LOSSES
from worker.training.classification.evaluation import MISTAKES, evaluate, surest_mistakes

#: Rows predicted at a time.
BATCH_SIZE = 10_000


def report(learner: Learner, splits: Splits, model: MlpModel, training: Training) -> Evaluation:
    """Return metrics and document of the test part, with the rows (from 1) that the model does worst on."""
    if splits.test is None:
        return Evaluation({})
    predicted, wanted = learner.predict(splits.test["x"], BATCH_SIZE), np.asarray(splits.test["y"])
    rows = np.asarray(splits.test["row"]) + 1
    if splits.facts["preprocessing"]["task"] == "classes":
        return _of_classes(predicted, wanted, rows, list(splits.facts["classes"]))
    return _of_numbers(predicted.astype(np.float64), wanted, rows, model.loss or LOSSES["numbers"][0])


def _of_classes(probabilities: Array, labels: Array, rows: Array, classes: list[str]) -> Evaluation:
    found = evaluate(probabilities, labels, classes)
    guesses = probabilities.argmax(axis=1)
    worst = [
        {
            "row": int(rows[place]), "true": classes[labels[place]], "predicted": classes[guesses[place]],
            "probability": float(probabilities[place, guesses[place]]),
        }
        for place in surest_mistakes(probabilities, labels)
    ]  # fmt: skip
    return replace(found, document={**found.document, "worst": worst})


def _of_numbers(predicted: Array, wanted: Array, rows: Array, loss: str) -> Evaluation:
    metrics = {f"test_{name}": value for name, value in measures(predicted, wanted, loss).items() if np.isfinite(value)}
    errors = predicted - wanted
    worst: list[dict[str, Any]] = [
        {
            "row": int(rows[place]), "true": float(wanted[place]), "predicted": float(predicted[place]),
            "error": float(errors[place]),
        }
        for place in np.argsort(-np.abs(errors), kind="stable")[:MISTAKES]
    ]  # fmt: skip
    shares = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    document = {
        "rows": len(wanted),
        "metrics": metrics,
        "errors": {
            f"{share:.0%}": float(value) for share, value in zip(shares, np.quantile(errors, shares), strict=True)
        },
        "worst": worst,
    }
    return Evaluation(metrics, document, {"predicted": predicted, "wanted": wanted})
