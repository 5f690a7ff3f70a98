"""Evaluation of a classifier of text on its test part, with its surest mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nightshift.families.learner import Evaluation, Learner
from nightshift.families.training import Training
from worker.families.text_classifier.data import LabelledTexts
from worker.families.text_classifier.family import TextClassifierModel
from worker.training.classification.evaluation import BATCH_SIZE, evaluate, surest_mistakes


def report(learner: Learner, splits: LabelledTexts, model: TextClassifierModel, training: Training) -> Evaluation:
    """Return metrics and document of the test part; the document also has the surest mistakes as text."""
    if splits.test is None:
        return Evaluation({})
    probabilities = learner.predict(splits.test["x"], BATCH_SIZE)
    labels, classes = np.asarray(splits.test["y"]), list(splits.facts["classes"])
    found = evaluate(probabilities, labels, classes)
    rows = surest_mistakes(probabilities, labels).tolist()
    mistakes = [
        {
            "row": row, "text": text, "class": classes[int(labels[row])],
            "predicted": classes[int(probabilities[row].argmax())], "probability": float(probabilities[row].max()),
        }
        for row, text in zip(rows, splits.texts("test", rows), strict=True)
    ]  # fmt: skip
    return replace(found, document={**found.document, "mistakes": mistakes})
