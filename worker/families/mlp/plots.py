"""Plots of a perceptron: those of any classifier, or true against predicted numbers with their errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nightshift.families.learner import Array, Evaluation
from worker.training.canvas import Canvas
from worker.training.classification import plots as classification
from worker.training.plots import BLUE, MUTED, RED, Area, History, Panel, around, draw_curves, side_by_side

#: Most points that are drawn, spread evenly over the rows.
POINTS = 5_000
_BINS = 40
#: Blue on white at an opacity of 0.8.
_BAR = "#5182ef"


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    if report.document and "predicted" not in report.arrays:
        return classification.draw(report, history, folder, best_step)
    paths = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    return [*paths, draw_residuals(report, folder / "residuals.png")] if report.document else paths


def draw_residuals(report: Evaluation, path: Path) -> Path:
    """Draw true against predicted numbers, errors against predicted numbers, and how often each error is."""
    predicted, wanted = report.arrays["predicted"], report.arrays["wanted"]
    errors = predicted - wanted
    chosen = np.unique(np.linspace(0, len(wanted) - 1, min(POINTS, len(wanted))).astype(np.int64))
    canvas = Canvas(1680, 528)
    left, middle, right = side_by_side(canvas, 3)
    both, x, r2 = around(np.concatenate([predicted, wanted])), around(predicted), report.metrics.get("test_r2")
    title = "true and predicted" + (f" · R² {r2:.4f}" if r2 is not None else "")
    panel = Panel(canvas, left, x, around(wanted), title=title, xlabel="predicted", ylabel="true")
    panel.dots(predicted[chosen], wanted[chosen], BLUE, 3, alpha=0.5)
    panel.line(both, both, MUTED, 1, (4, 3))
    title = f"errors · MAE {report.metrics['test_mae']:.4g}"
    panel = Panel(canvas, middle, x, around(errors), title=title, xlabel="predicted", ylabel="predicted − true")
    panel.dots(predicted[chosen], errors[chosen], BLUE, 3, alpha=0.5)
    panel.line(x, (0, 0), MUTED, 1, (4, 3))
    _draw_distribution(canvas, right, errors, report.metrics["test_rmse"])
    return canvas.save(path)


def _draw_distribution(canvas: Canvas, area: Area, errors: Array, rmse: float) -> None:
    counts, ends = np.histogram(errors, _BINS)
    title = f"distribution of the errors · RMSE {rmse:.4g}"
    y = (0.0, 1.05 * float(counts.max()))
    panel = Panel(canvas, area, around(ends), y, title=title, xlabel="predicted − true", ylabel="rows")
    (bottom,) = panel.along([0])
    for start, end, top in zip(panel.across(ends), panel.across(ends[1:]), panel.along(counts), strict=False):
        canvas.box(start, bottom, end - start, top - bottom, fill=_BAR)
    panel.vertical(0.0, RED)
