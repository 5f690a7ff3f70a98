"""Plots of a perceptron: those of any classifier, or true against predicted numbers with their errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nightshift.families.learner import Evaluation
from worker.training.charts import BLUE, DPI, MUTED, RED, Panel, draw_row
from worker.training.classification import plots as classification
from worker.training.plots import History, draw_curves

#: Most points that are drawn, spread evenly over the rows.
POINTS = 5_000
_BINS = 40
#: Width and height of the figure.
_SIZE = (14 * DPI, 4.4 * DPI)


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    if report.document and "predicted" not in report.arrays:
        return classification.draw(report, history, folder, best_step)
    paths = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    return [*paths, draw_residuals(report, folder / "residuals.png")] if report.document else paths


def draw_residuals(report: Evaluation, path: Path) -> Path:
    """Draw true against predicted numbers, errors against predicted numbers, and how often each error is."""
    predicted, wanted = report.arrays["predicted"], report.arrays["wanted"]
    chosen = np.unique(np.linspace(0, len(wanted) - 1, min(POINTS, len(wanted))).astype(np.int64))
    r2 = report.metrics.get("test_r2")
    both = Panel("true and predicted" + (f" · R² {r2:.4f}" if r2 is not None else ""), "predicted", "true")
    both.points(predicted[chosen], wanted[chosen], BLUE)
    ends = [min(predicted.min(), wanted.min()), max(predicted.max(), wanted.max())]
    both.curve(ends, ends, MUTED, linewidth=1, dashed=True)
    errors = Panel(f"errors · MAE {report.metrics['test_mae']:.4g}", "predicted", "predicted − true")
    errors.points(predicted[chosen], (predicted - wanted)[chosen], BLUE)
    errors.across("y", 0, MUTED)
    found, edges = np.histogram(predicted - wanted, _BINS)
    title = f"distribution · RMSE {report.metrics['test_rmse']:.4g}"
    counts = Panel(title, "predicted − true", "rows", ylim=(0.0, 1.05 * found.max()))
    for height, left, right in zip(found, edges, edges[1:], strict=False):
        counts.bar(left, right, 0, height, BLUE)
    counts.across("x", 0, RED, dashed=False)
    return draw_row([both, errors, counts], *_SIZE)[0].save(path)
