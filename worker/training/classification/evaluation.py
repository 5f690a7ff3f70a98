"""Evaluation of classifiers of any data, with scikit-learn's metrics over their probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.metrics import auc, confusion_matrix, precision_recall_fscore_support, roc_curve

from nightshift.families.learner import Array, Evaluation

#: Points kept of each ROC curve in `evaluation.json`.
ROC_POINTS = 201
#: Rows predicted at a time. Too low: a GPU waits. Too high: memory that is touched for the first time takes longer than
#: computing.
BATCH_SIZE = 64
#: Mistakes shown beside the figures.
MISTAKES = 10


def evaluate(probabilities: Array, labels: Array, classes: list[str]) -> Evaluation:
    """Return the evaluation of probabilities [n, classes] against labels [n].

    A class without rows has no AUC and is left out of the macro mean.
    """
    predicted, names = probabilities.argmax(axis=1), range(len(classes))
    # The checks of parameters take most of the time of a small evaluation.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        precision, recall, f1, support = precision_recall_fscore_support(
            labels, predicted, labels=names, zero_division=0
        )
        counts = confusion_matrix(labels, predicted, labels=names)
        curves = [_roc(labels == i, probabilities[:, i]) for i in names]
    areas = [curve["auc"] for curve in curves if curve is not None]
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
    metrics = {
        "test_loss": float(-np.log(chosen.astype(np.float64)).mean()),
        "test_accuracy": float((predicted == labels).mean()),
        "precision_macro": float(np.mean(precision)),
        "recall_macro": float(np.mean(recall)),
        "f1_macro": float(np.mean(f1)),
    } | ({"auc_macro_ovr": float(np.mean(areas))} if areas else {})
    per_class = [
        {
            "class": name, "precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i]),
            "support": int(support[i]), "auc": (curves[i] or {}).get("auc"),
        }
        for i, name in enumerate(classes)
    ]  # fmt: skip
    document = {
        "classes": classes,
        "rows": len(labels),
        "metrics": metrics,
        "confusion_matrix": counts.tolist(),
        "per_class": per_class,
        "roc": curves,
    }
    return Evaluation(metrics, document)


def _roc(is_class: npt.NDArray[np.bool_], score: Array) -> dict[str, Any] | None:
    """Return the ROC curve of one class against the rest, or None if either side is empty."""
    if is_class.all() or not is_class.any():
        return None
    false_positive, true_positive, _ = roc_curve(is_class, score)
    chosen = np.unique(np.linspace(0, len(false_positive) - 1, ROC_POINTS).round().astype(int))
    return {
        "auc": float(auc(false_positive, true_positive)),
        "fpr": false_positive[chosen].round(6).tolist(),
        "tpr": true_positive[chosen].round(6).tolist(),
    }


def surest_mistakes(probabilities: Array, labels: Array, most: int = MISTAKES) -> npt.NDArray[np.int64]:
    """Return the rows of the most confident mistakes, the most confident one first."""
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
