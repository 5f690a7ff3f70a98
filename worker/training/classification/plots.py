"""Plots of classifiers of any data: learning curves, confusion matrix and ROC curves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from nightshift.families.learner import Array, Evaluation
from worker.training.canvas import Canvas
from worker.training.plots import (
    GAP,
    INK,
    MUTED,
    RED,
    TICK,
    Entry,
    History,
    Panel,
    draw_curves,
    shown,
    side_by_side,
    widest,
)

#: With more classes, cells hold no counts and curves no names.
MOST_NAMED = 20
#: Pixels of the colors' scale with its texts, and of everything else around a confusion matrix without names.
_SCALE, _AROUND = 110, 110


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


def draw_confusion(document: dict[str, Any], path: Path) -> Path:
    """Draw the confusion matrix: counts, colored by their share of the true class."""
    counts, classes = np.array(document["confusion_matrix"]), [shown(name) for name in document["classes"]]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = classes if len(classes) <= MOST_NAMED else []
    inner, text = min(1330, 276 + 54 * len(classes)), widest(names)
    canvas = Canvas(round(inner + text + _AROUND + _SCALE), round(inner + text + _AROUND))
    ends = (-0.5, len(classes) - 0.5)
    at = [(float(place), name) for place, name in enumerate(names)] if names else None
    panel = Panel(
        canvas,
        (0, 0, canvas.width - _SCALE, canvas.height),
        ends,
        (ends[1], ends[0]),
        title=f"confusion matrix · accuracy {document['metrics']['test_accuracy']:.4f}",
        xlabel="predicted",
        ylabel="true",
        xticks=at,
        yticks=at,
        grid=False,
        slants=max(map(len, names), default=0) > 3,
    )
    left, bottom, width, height = panel.inside
    canvas.picture(left, bottom + height, width, height, _blues(shares))
    if names:
        _write_counts(panel, counts, shares)
    _draw_scale(canvas, left + width + 3 * GAP, bottom, height)
    return canvas.save(path)


def _blues(shares: Array) -> Array:
    colors: Array = colormaps["Blues"](shares, bytes=True)[..., :3]
    return colors


def _write_counts(panel: Panel, counts: Array, shares: Array) -> None:
    columns, rows = panel.across(range(len(counts))), panel.along(range(len(counts)))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.55 else INK if row == column else RED
            x, y = float(columns[column]), float(rows[row])
            panel.canvas.text(x, y, str(count), TICK, color, across="center", along="middle")


def _draw_scale(canvas: Canvas, left: float, bottom: float, height: float) -> None:
    """Draw the scale of the colors."""
    canvas.picture(left, bottom + height, 30, height, _blues(np.linspace(1, 0, 256)[:, None]))
    for share in np.linspace(0, 1, 6):
        canvas.text(left + 30 + GAP, bottom + share * height, f"{share:.1f}", TICK, MUTED, along="middle")
    middle = bottom + height / 2
    canvas.text(canvas.width - GAP, middle, "share of the true class", TICK, MUTED, across="center", angle=90)


# -- ROC ------------------------------------------------------------------------------------------


def draw_roc(document: dict[str, Any], path: Path) -> Path:
    """Draw one-against-the-rest ROC curves, whole and enlarged at the upper left corner."""
    canvas = Canvas(1200, 552)
    left, right = side_by_side(canvas, 2)
    macro = document["metrics"].get("auc_macro_ovr")
    title = f"ROC, one against the rest · macro AUC {macro:.5f}" if macro is not None else "ROC"
    make = partial(Panel, canvas, xlabel="false positive rate", ylabel="true positive rate")
    whole = make(left, (-0.05, 1.05), (-0.05, 1.05), title=title)
    corner = make(right, (-0.002, 0.1), (0.9, 1.002), title="its upper left corner")
    classes = document["classes"]
    colors = colormaps["tab10" if len(classes) <= 10 else "viridis"]
    entries = []
    for i, (name, curve) in enumerate(zip(classes, document["roc"], strict=True)):
        if curve is None:
            continue
        color = tuple(colors(i if len(classes) <= 10 else i / len(classes)))
        for panel in (whole, corner):
            panel.line(curve["fpr"], curve["tpr"], color, 1.6)
        entries.append(Entry(f"{shown(name)}  {curve['auc']:.4f}", color))
    whole.line([0, 1], [0, 1], MUTED, 1.0, (4, 3))
    if entries and len(classes) <= MOST_NAMED:
        end, top = whole.left + whole.width - GAP, whole.bottom + 20 * len(entries) + GAP
        canvas.text(end, top + GAP, "class  AUC", TICK, INK, across="right")
        whole.legend(entries, end, top, 7.5)
    return canvas.save(path)
