"""Plots of classifiers of any data: learning curves, confusion matrix and ROC curves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from nightshift.families.learner import Array, Evaluation
from worker.training.plots import (
    DASHED,
    GAP,
    HEAD,
    INK,
    LABEL,
    MUTED,
    RED,
    TICK,
    History,
    arrange,
    draw_curves,
    label,
    new_figure,
    number_ticks,
    panels,
    save,
    shown,
    styled,
    widest,
)

#: With more classes, cells hold no counts and curves no names.
MOST_NAMED = 20
#: Degrees of slanted names.
_SLANT = 40
#: Width of the scale of colors, and of it with its texts (inches).
_SCALE, _WITH_TEXTS = 0.25, 0.95
#: Width of a legend beside its names (inches).
_LEGEND = 1.2


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    paths = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    if report.document:
        paths += [
            draw_confusion(report.document, folder / "confusion_matrix.png"),
            draw_roc(report.document, folder / "roc.png"),
        ]
    return paths


# -- confusion matrix -----------------------------------------------------------------------------


@styled
def draw_confusion(document: dict[str, Any], path: Path) -> Path:
    """Draw the confusion matrix: counts, colored by their share of the true class."""
    counts, classes = np.array(document["confusion_matrix"]), [shown(name) for name in document["classes"]]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = classes if len(classes) <= MOST_NAMED else []
    text, slant = widest(names or [str(len(classes))]), _SLANT if max(map(len, names), default=0) > 3 else 0
    side, left = min(11.0, 2.4 + 0.45 * len(classes)), LABEL + text + 2 * GAP
    bottom = LABEL + 2 * GAP + TICK / 72 + text * math.sin(math.radians(slant))
    width, height = left + side + _WITH_TEXTS, bottom + side + HEAD
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    ends = np.arange(len(classes) + 1) - 0.5
    axes.pcolormesh(ends, ends, shares, cmap="Blues", vmin=0, vmax=1)
    axes.invert_yaxis()
    label(axes, f"confusion matrix · accuracy {document['metrics']['test_accuracy']:.4f}", "predicted", "true")
    axes.grid(visible=False)
    if names:
        _name_ticks(axes, names, slant)
        _write_counts(axes, counts, shares)
    else:
        number_ticks(axes.xaxis, whole=True)
        number_ticks(axes.yaxis, whole=True)
    scale = figure.add_axes(((left + side + 2 * GAP) / width, bottom / height, _SCALE / width, side / height))
    _draw_scale(scale)
    return save(figure, path)


def _name_ticks(axes: Any, names: list[str], slant: int) -> None:
    turned = {"rotation": slant, "ha": "right", "rotation_mode": "anchor"} if slant else {}
    axes.set_xticks(range(len(names)), names, **turned)
    axes.set_yticks(range(len(names)), names)


def _write_counts(axes: Any, counts: Array, shares: Array) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.55 else INK if row == column else RED
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=TICK)


def _draw_scale(axes: Any) -> None:
    """Draw the scale of the colors."""
    axes.pcolormesh((0, 1), np.linspace(0, 1, 129), np.linspace(0, 1, 128)[:, None], cmap="Blues")
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
    axes.set_ylabel("share of the true class", fontsize=TICK)


# -- ROC ------------------------------------------------------------------------------------------


@styled
def draw_roc(document: dict[str, Any], path: Path) -> Path:
    """Draw one-against-the-rest ROC curves, whole and enlarged at the upper left corner."""
    classes, macro = [shown(name) for name in document["classes"]], document["metrics"].get("auc_macro_ovr")
    beside = _LEGEND + widest(classes) if len(classes) <= MOST_NAMED else 0.0
    figure = new_figure(10 + beside, 4.6)
    whole, corner = panels(figure, 2)
    label(whole, f"ROC, one against the rest · macro AUC {macro:.5f}" if macro is not None else "ROC", *_ROC_AXES)
    label(corner, "its upper left corner", *_ROC_AXES)
    colors = colormaps["tab10" if len(classes) <= 10 else "viridis"]
    for i, (name, curve) in enumerate(zip(classes, document["roc"], strict=True)):
        if curve is None:
            continue
        color = colors(i if len(classes) <= 10 else i / len(classes))
        for axes in (whole, corner):
            axes.plot(curve["fpr"], curve["tpr"], color=color, lw=1.6, label=f"{name}  {curve['auc']:.4f}")
    whole.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=DASHED)
    corner.set(xlim=(-0.002, 0.1), ylim=(0.9, 1.002))
    if beside:
        corner.legend(
            loc="upper left", bbox_to_anchor=(1, 1), title="class  AUC", title_fontsize=TICK, alignment="left"
        )
    arrange(figure, beside)
    return save(figure, path)


_ROC_AXES = ("false positive rate", "true positive rate")
