"""Learning curves of any family, and the common style of all figures.

Uses matplotlib's object API with Agg only: no pyplot, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nightshift.metrics import PANELS, chart_title, curve_label

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
BLUE, ORANGE, GREEN, RED = "#2563eb", "#ea580c", "#059669", "#dc2626"

#: Class names are shown literally: `$` does not begin a formula.
matplotlib.rcParams["text.parse_math"] = False

History = Mapping[str, Sequence[Sequence[float]]]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size (inches)."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Any, title: str, xlabel: str = "", ylabel: str = "") -> None:
    """Apply the common style to axes, with a title and labels."""
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.set_xlabel(xlabel, color=MUTED, fontsize=9)
    axes.set_ylabel(ylabel, color=MUTED, fontsize=9)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _print(figure, path)
    return path


def _print(figure: Figure, file: Path | io.BytesIO) -> None:
    """Draw and write a figure. `Figure.savefig` would draw everything twice, the first time for the layout alone."""
    canvas: Any = figure.canvas
    canvas.print_png(file)


def load_fonts() -> None:
    """Draw a small figure and drop it: forked processes then have the fonts and the caches of matplotlib."""
    figure = new_figure(2, 2)
    axes = figure.add_subplot()
    style(axes, "title", "x", "y")
    axes.plot([0, 1], [0, 1], marker="o", label="line")
    axes.legend(frameon=False, fontsize=8)
    _print(figure, io.BytesIO())


def draw_curves(history: History, path: Path, best_step: int | None = None) -> Path:
    """Draw one panel per kind of metric recorded; the step of the best model is marked."""
    panels = [(chart_title(names[0]), [name for name in names if history.get(name)]) for names in PANELS]
    panels = [(title, names) for title, names in panels if names] or [("loss", [])]
    figure = new_figure(5.2 * len(panels), 3.6)
    for column, (title, names) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), column + 1)
        style(axes, title, xlabel="step")
        for i, name in enumerate(names):
            steps, values = zip(*history[name], strict=True)
            marker = "o" if name.startswith("val_") else None
            axes.plot(steps, values, color=(BLUE, ORANGE)[i], lw=1.8, marker=marker, ms=4, label=curve_label(name))
        if best_step is not None:
            axes.axvline(best_step, color=GREEN, lw=1.2, ls=(0, (4, 3)), label="best model")
        if names:
            axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return save(figure, path)
