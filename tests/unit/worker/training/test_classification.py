"""The evaluation of a classifier of any data."""

from __future__ import annotations

import numpy as np
import pytest

from worker.training.classification.evaluation import evaluate, surest_mistakes


def test_measures_of_a_perfect_classifier() -> None:
    report = evaluate(np.eye(3, dtype=np.float32)[[0, 1, 2, 1]], np.array([0, 1, 2, 1]), list("abc"))
    assert report.metrics == {
        "test_loss": pytest.approx(0), "test_accuracy": 1.0, "precision_macro": 1.0, "recall_macro": 1.0,
        "f1_macro": 1.0, "auc_macro_ovr": 1.0,
    }  # fmt: skip
    assert report.document["confusion_matrix"] == [[1, 0, 0], [0, 2, 0], [0, 0, 1]]


def test_a_class_without_test_rows_has_no_auc_and_spoils_nothing() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], np.float32)
    report = evaluate(probabilities, np.array([0, 1]), list("abc"))
    assert report.document["roc"][2] is None
    assert report.metrics["auc_macro_ovr"] == 1.0


def test_the_surest_mistake_comes_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], np.float32)
    assert surest_mistakes(probabilities, np.array([0, 0, 0, 1])).tolist() == [2, 1]
