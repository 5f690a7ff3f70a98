"""Plots of a perceptron: those of any classifier, or true against predicted numbers with their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nightshift.families.learner import Array, Evaluation
from worker.training.classification import plots as classification
from worker.training.plots import (
    BLUE,
    DASHED,
    MUTED,
    RED,
    History,
    arrange,
    draw_curves,
    label,
    new_figure,
    panels,
    save,
    styled,
)

#: Most points that are drawn, spread evenly over the rows.
POINTS = 5_000
_BINS = 40


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    if report.document and "predicted" not in report.arrays:
        return classification.draw(report, history, folder, best_step)
    paths = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    return [*paths, draw_residuals(report, folder / "residuals.png")] if report.document else paths


@styled
def draw_residuals(report: Evaluation, path: Path) -> Path:
    """Draw true against predicted numbers, errors against predicted numbers, and how often each error is."""
    predicted, wanted = report.arrays["predicted"], report.arrays["wanted"]
    chosen = np.unique(np.linspace(0, len(wanted) - 1, min(POINTS, len(wanted))).astype(np.int64))
    figure = new_figure(14, 4.4)
    both, errors, counts = panels(figure, 3)
    r2 = report.metrics.get("test_r2")
    label(both, "true and predicted" + (f" · R² {r2:.4f}" if r2 is not None else ""), "predicted", "true")
    _points(both, predicted[chosen], wanted[chosen])
    ends = [min(predicted.min(), wanted.min()), max(predicted.max(), wanted.max())]
    both.plot(ends, ends, color=MUTED, lw=1, ls=DASHED)
    label(errors, f"errors · MAE {report.metrics['test_mae']:.4g}", "predicted", "predicted − true")
    _points(errors, predicted[chosen], (predicted - wanted)[chosen])
    errors.axhline(0, color=MUTED, lw=1, ls=DASHED)
    label(counts, f"distribution · RMSE {report.metrics['test_rmse']:.4g}", "predicted − true", "rows")
    counts.stairs(*np.histogram(predicted - wanted, _BINS), fill=True, color=BLUE, alpha=0.8)
    counts.axvline(0, color=RED, lw=1)
    arrange(figure)
    return save(figure, path)


def _points(axes: Any, x: Array, y: Array) -> None:
    axes.plot(x, y, "o", ms=3, mew=0, color=BLUE, alpha=0.5)
