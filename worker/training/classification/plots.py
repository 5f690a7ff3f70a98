"""Plots of classifiers of any data: learning curves, confusion matrix and ROC curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from nightshift.families.learner import Array, Evaluation
from worker.training.plots import INK, MUTED, RED, History, draw_curves, new_figure, save, style

#: With more classes, cells hold no counts and curves no names.
MOST_NAMED = 20


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    paths = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    if report.document:
        paths += [
            draw_confusion(report.document, folder / "confusion_matrix.png"),
            draw_roc(report.document, folder / "roc.png"),
        ]
    return paths


def draw_confusion(document: dict[str, Any], path: Path) -> Path:
    """Draw the confusion matrix: counts, colored by their share of the true class."""
    counts, classes = np.array(document["confusion_matrix"]), document["classes"]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 3.2 + 0.45 * len(classes))
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    style(axes, f"confusion matrix · accuracy {document['metrics']['test_accuracy']:.4f}", "predicted", "true")
    axes.grid(visible=False)
    if len(classes) <= MOST_NAMED:
        _name_ticks(axes, classes)
        _write_counts(axes, counts, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8, length=0)
    bar.set_label("share of the true class", color=MUTED, fontsize=8)
    return save(figure, path)


def _name_ticks(axes: Any, classes: list[str]) -> None:
    slanted = max(map(len, classes)) > 3
    axes.set_xticks(range(len(classes)), classes, rotation=40 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(classes)), classes)


def _write_counts(axes: Any, counts: Array, shares: Array) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.55 else INK if row == column else RED
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)


def draw_roc(document: dict[str, Any], path: Path) -> Path:
    """Draw one-against-the-rest ROC curves, whole and enlarged at the upper left corner."""
    figure = new_figure(10, 4.6)
    whole, corner = figure.subplots(1, 2)
    macro = document["metrics"].get("auc_macro_ovr")
    style(whole, f"ROC, one against the rest · macro AUC {macro:.5f}" if macro is not None else "ROC", *_ROC_AXES)
    style(corner, "its upper left corner", *_ROC_AXES)
    colors = colormaps["tab10" if len(document["classes"]) <= 10 else "viridis"]
    for i, (name, curve) in enumerate(zip(document["classes"], document["roc"], strict=True)):
        if curve is None:
            continue
        color = colors(i if len(document["classes"]) <= 10 else i / len(document["classes"]))
        for axes in (whole, corner):
            axes.plot(curve["fpr"], curve["tpr"], color=color, lw=1.6, label=f"{name}  {curve['auc']:.4f}")
    whole.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
    corner.set(xlim=(-0.002, 0.1), ylim=(0.9, 1.002))
    if len(document["classes"]) <= MOST_NAMED:
        whole.legend(
            frameon=False, fontsize=7.5, labelcolor=INK, loc="lower right", title="class  AUC", title_fontsize=8
        )
    return save(figure, path)


_ROC_AXES = ("false positive rate", "true positive rate")
