"""Learning curves of any family, and the common style of all figures.

Uses matplotlib's object API with Agg only: no pyplot, no global state. No layout engine, which would draw everything
twice: margins follow from the longest texts. Sizes are inches, unless said otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image

from nightshift.metrics import PANELS, chart_title, curve_label

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
BLUE, ORANGE, GREEN, RED = "#2563eb", "#ea580c", "#059669", "#dc2626"
DASHED = (0, (4, 3))

History = Mapping[str, Sequence[Sequence[float]]]

#: Size of the texts of ticks and legends (points), and pixels per inch.
TICK, DPI = 8.0, 120
#: Heights: of the title with what is above it, and of the line of an axis' label.
HEAD, LABEL = 0.36, 0.24
#: Width left free at the right, and the gap beside texts.
RIGHT, GAP = 0.25, 0.07
#: Numbers at most along an axis.
_MOST_TICKS = 5
#: Characters shown of a name.
_MOST_LETTERS = 40
#: Level of PNG compression: the default of 6 takes 1.4 times as long.
_COMPRESSION = 3

_TICK_STYLE = {"labelsize": TICK, "color": MUTED, "major.size": 0.0}
_STYLE: Any = {
    "text.parse_math": False,  # names are shown literally: `$` does not begin a formula
    "figure.dpi": DPI,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titley": 1.0,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    **{f"axes.spines.{side}": False for side in ("left", "bottom", "right", "top")},
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    **{f"{axis}tick.{name}": value for axis in "xy" for name, value in _TICK_STYLE.items()},
    "legend.frameon": False,
    "legend.fontsize": TICK,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}
#: Gives a function that draws the common style; programs keep their own.
styled = matplotlib.rc_context(_STYLE)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size."""
    return Figure(figsize=(width, height))


def panels(figure: Figure, count: int) -> list[Any]:
    """Add so many axes in a row to a figure, with few numbers along them."""
    made = [figure.add_subplot(1, count, number + 1) for number in range(count)]
    for axes in made:
        for axis in (axes.xaxis, axes.yaxis):
            number_ticks(axis)
    return made


def number_ticks(axis: Any, whole: bool = False) -> None:
    """Give an axis few round (or whole) numbers, written in full."""
    steps = [1, 2, 2.5, 5, 10]
    axis.set_major_locator(MaxNLocator(_MOST_TICKS, steps=steps, integer=whole, min_n_ticks=1 if whole else 2))
    axis.set_major_formatter(StrMethodFormatter("{x:.10g}"))


def label(axes: Any, title: str, xlabel: str = "", ylabel: str = "") -> None:
    """Name axes."""
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)


def arrange(figure: Figure, beside: float = 0.0) -> None:
    """Set the margins of axes in a row, once all is drawn. `beside`: a width left free at the right of all."""
    (width, height), row = figure.get_size_inches(), figure.axes
    left = max(_left(axes) for axes in row)
    bottom = GAP + LABEL + GAP + TICK / 72
    inner = (width - beside) / len(row) - left - RIGHT
    figure.subplots_adjust(
        left=left / width,
        right=1 - (RIGHT + beside) / width,
        bottom=bottom / height,
        top=1 - HEAD / height,
        wspace=(left + RIGHT) / inner,
    )
    for axes in row:
        # Else each axis would measure its numbers twice to place its label.
        axes.xaxis.set_label_coords(0.5, -(bottom - LABEL) / (height - HEAD - bottom))
        axes.yaxis.set_label_coords(-(left - LABEL) / inner, 0.5)


def _left(axes: Any) -> float:
    """Return the width of what stands at the left of axes."""
    texts = axes.yaxis.get_major_formatter().format_ticks(axes.get_yticks())
    return (LABEL if axes.get_ylabel() else 0) + GAP + widest(texts) + GAP


def widest(texts: Iterable[str]) -> float:
    """Return the width of the widest text of ticks."""
    return max((width_of(text, TICK) for text in texts), default=0.0)


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line of text of a size in points."""
    font = FontProperties(size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72


def shown(name: str) -> str:
    """Return a name for a figure: in one line, and shortened if it is long."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"


def legend_in_head(axes: Any, count: int) -> None:
    """Add a legend of so many entries in the line of the title, at its right end, where it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=count, borderaxespad=0.3, columnspacing=1.2)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file and return the path."""
    return save_image(image_of(figure), path)


def image_of(figure: Figure) -> Image.Image:
    """Draw a figure once. `Figure.savefig` would draw it twice, the first time for the layout alone."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def save_image(image: Image.Image, path: Path) -> Path:
    """Write an image as a PNG file and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG", compress_level=_COMPRESSION, dpi=(DPI, DPI))
    return path


@styled
def load_fonts() -> None:
    """Draw a small figure and drop it: forked processes then have the fonts and the caches of matplotlib."""
    figure = new_figure(2, 2)
    (axes,) = panels(figure, 1)
    label(axes, "title", "x", "y")
    axes.plot([0, 1], [0, 1], marker="o", label="line")
    legend_in_head(axes, 1)
    arrange(figure)
    image_of(figure).save(io.BytesIO(), format="PNG")


@styled
def draw_curves(history: History, path: Path, best_step: int | None = None) -> Path:
    """Draw one panel per kind of metric recorded; the step of the best model is marked."""
    parts = [(chart_title(names[0]), [name for name in names if history.get(name)]) for names in PANELS]
    parts = [(title, names) for title, names in parts if names] or [("loss", [])]
    figure = new_figure(5.2 * len(parts), 3.6)
    for axes, (title, names) in zip(panels(figure, len(parts)), parts, strict=True):
        label(axes, title, xlabel="step")
        number_ticks(axes.xaxis, whole=True)
        for name, color in zip(names, (BLUE, ORANGE), strict=False):
            steps, values = zip(*history[name], strict=True)
            # A line of one point would not be seen.
            marker = "o" if name.startswith("val_") or len(steps) == 1 else None
            axes.plot(steps, values, color=color, marker=marker, label=curve_label(name))
        if best_step is not None:
            axes.axvline(best_step, color=GREEN, lw=1.2, ls=DASHED, label="best model")
        if names:
            legend_in_head(axes, len(names) + (best_step is not None))
    arrange(figure)
    return save(figure, path)
