"""Plots of classifiers of any data: learning curves, confusion matrix and ROC curves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from nightshift.families.learner import Array, Evaluation
from worker.training.charts import (
    DPI,
    GAP,
    HEAD,
    INK,
    LINE,
    MUTED,
    RED,
    TICK,
    TITLE,
    Box,
    Chart,
    Panel,
    draw_list,
    draw_row,
    label_axes,
    ticks_between,
    widest,
)
from worker.training.plots import History, draw_curves, shown

#: With more classes, cells hold no counts and curves no names.
MOST_NAMED = 20
#: Degrees of slanted names, and letters of the longest name that is not slanted.
_SLANT, _LEVEL = 40, 3
#: Side of a matrix without its cells, of each cell, and of the largest matrix.
_SIDE, _CELL, _LARGEST = 2.4 * DPI, 0.45 * DPI, 11 * DPI
#: Width of the scale of colors, and of it with its texts.
_SCALE, _WITH_TEXTS = 30, 114
#: Size of a figure of two ROC curves, and width of a legend beside its names.
_WIDTH, _HEIGHT, _LEGEND = 10 * DPI, 4.6 * DPI, 1.2 * DPI


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
    is_named = len(classes) <= MOST_NAMED
    names = dict(enumerate(classes)) if is_named else _numbers(len(classes))
    slant = _SLANT if is_named and max(map(len, classes)) > _LEVEL else 0
    text, side = widest(names.values()), round(min(_LARGEST, _SIDE + _CELL * len(classes)))
    left = LINE + text + 2 * GAP
    below = LINE + 2 * GAP + TICK * DPI / 72 + text * math.sin(math.radians(slant))
    chart = Chart(left + side + _WITH_TEXTS, HEAD + side + below)
    box = Box(round(left), HEAD, round(left) + side, HEAD + side)
    title = f"confusion matrix · accuracy {document['metrics']['test_accuracy']:.4f}"
    chart.text(box.left, box.top - GAP, title, TITLE, INK, anchor="ls", bold=True)
    chart.picture(_colored(shares).resize((side, side), Image.Resampling.NEAREST), box.left, box.top)
    _name_cells(chart, box, names, side / len(classes), slant)
    if is_named:
        _write_counts(chart, box, counts, shares)
    label_axes(chart, box, left, "predicted", "true", below)
    _draw_scale(chart, Box(box.right + 2 * GAP, box.top, box.right + 2 * GAP + _SCALE, box.bottom))
    return chart.save(path)


def _numbers(classes: int) -> dict[int, str]:
    return {int(at): text for at, text in ticks_between(0, classes - 1, whole=True).items()}


def _colored(shares: Array) -> Image.Image:
    """Return a picture with a pixel for each share."""
    return Image.fromarray(colormaps["Blues"](shares, bytes=True)[..., :3].copy())


def _name_cells(chart: Chart, box: Box, names: dict[int, str], cell: float, slant: int) -> None:
    for place, name in names.items():
        middle = (place + 0.5) * cell
        chart.text(box.left - GAP, box.top + middle, name, anchor="rm")
        if slant:
            below = box.bottom + GAP + TICK * DPI / 144
            chart.turned_text(box.left + middle, below, name, TICK, MUTED, degrees=slant, ends=True)
        else:
            chart.text(box.left + middle, box.bottom + GAP, name, anchor="ma")


def _write_counts(chart: Chart, box: Box, counts: Array, shares: Array) -> None:
    cell = box.width / len(counts)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 0.55 else INK if row == column else RED
            middle = (box.left + (column + 0.5) * cell, box.top + (row + 0.5) * cell)
            chart.text(*middle, str(count), TICK, color, anchor="mm")


def _draw_scale(chart: Chart, box: Box) -> None:
    """Draw the scale of the colors."""
    colors = _colored(np.linspace(1, 0, 128)[:, None])
    chart.picture(colors.resize((round(box.width), round(box.height)), Image.Resampling.NEAREST), box.left, box.top)
    for share in (0, 0.5, 1):
        chart.text(box.right + GAP, box.bottom - share * box.height, f"{share:g}")
    middle = (box.top + box.bottom) / 2
    chart.turned_text(box.right + LINE + 2 * GAP, middle, "share of the true class", TICK, MUTED, degrees=90)


# -- ROC ------------------------------------------------------------------------------------------


def draw_roc(document: dict[str, Any], path: Path) -> Path:
    """Draw one-against-the-rest ROC curves, whole and enlarged at the upper left corner."""
    classes, macro = [shown(name) for name in document["classes"]], document["metrics"].get("auc_macro_ovr")
    title = f"ROC, one against the rest · macro AUC {macro:.5f}" if macro is not None else "ROC"
    whole = Panel(title, *_ROC_AXES, xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    corner = Panel("its upper left corner", *_ROC_AXES, xlim=(-0.002, 0.1), ylim=(0.9, 1.002))
    colors = colormaps["tab10" if len(classes) <= 10 else "viridis"]
    entries = []
    for i, (name, curve) in enumerate(zip(classes, document["roc"], strict=True)):
        if curve is not None:
            color = colors(i if len(classes) <= 10 else i / len(classes))
            entries.append((f"{name}  {curve['auc']:.4f}", color))
            for panel in (whole, corner):
                panel.curve(curve["fpr"], curve["tpr"], color, linewidth=1.6)
    whole.curve([0, 1], [0, 1], MUTED, linewidth=1, dashed=True)
    beside = _LEGEND + widest(classes) if len(classes) <= MOST_NAMED else 0.0
    chart, boxes = draw_row([whole, corner], _WIDTH + beside, _HEIGHT, beside)
    if beside:
        draw_list(chart, boxes[-1].right + 2 * GAP, boxes[-1].top + GAP, "class  AUC", entries)
    return chart.save(path)


_ROC_AXES = ("false positive rate", "true positive rate")
