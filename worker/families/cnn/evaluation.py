"""Evaluation of a classifier on its test part, with scikit-learn's metrics over its probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score, roc_curve

from nightshift.families.learner import Array, Evaluation, Learner, Splits
from nightshift.families.training import Training

#: Points kept of each ROC curve in `evaluation.json`.
ROC_POINTS = 201
#: Images in the 5x5 prediction grid.
GRID = 25
#: Rows predicted at a time.
BATCH_SIZE = 500


def report(learner: Learner, splits: Splits, model: Any, training: Training) -> Evaluation:
    """Return metrics and document of the test part; `arrays` holds the images of the prediction grid."""
    if splits.test is None:
        return Evaluation({})
    labels = np.asarray(splits.test["y"])
    probabilities = learner.predict(splits.test["x"], BATCH_SIZE)
    return evaluate(probabilities, labels, list(splits.facts["classes"]), splits.test["x"])


def evaluate(probabilities: Array, labels: Array, classes: list[str], pictures: Array) -> Evaluation:
    """Return the evaluation of probabilities [n, classes] against labels [n].

    A class without rows has no AUC and is left out of the macro mean.
    """
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(len(classes)), zero_division=0
    )
    curves = [_roc(labels == i, probabilities[:, i]) for i in range(len(classes))]
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
        "confusion_matrix": confusion_matrix(labels, predicted, labels=range(len(classes))).tolist(),
        "per_class": per_class,
        "roc": curves,
    }
    return Evaluation(metrics, document, _grid(pictures, labels, predicted, probabilities))


def _roc(is_class: npt.NDArray[np.bool_], score: Array) -> dict[str, Any] | None:
    """Return the ROC curve of one class against the rest, or None if either side is empty."""
    if is_class.all() or not is_class.any():
        return None
    false_positive, true_positive, _ = roc_curve(is_class, score)
    chosen = np.unique(np.linspace(0, len(false_positive) - 1, ROC_POINTS).round().astype(int))
    return {
        "auc": float(roc_auc_score(is_class, score)),
        "fpr": false_positive[chosen].round(6).tolist(),
        "tpr": true_positive[chosen].round(6).tolist(),
    }


def _grid(pictures: Array, labels: Array, predicted: Array, probabilities: Array) -> dict[str, Array]:
    """Return the prediction grid: up to ten most confident mistakes, then the first rows of the set."""
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:10]
    others = np.setdiff1d(np.arange(min(len(labels), 2 * GRID)), wrong)
    rows = np.concatenate([wrong, others])[:GRID]
    return {
        "pictures": np.stack([pictures[row] for row in rows]) if len(rows) else np.empty((0, 1, 1, 1), np.uint8),
        "labels": labels[rows], "predicted": predicted[rows], "confidence": confidence[rows],
    }  # fmt: skip
