"""Learning curves of any family, and the common style of all figures: panels with a title, ticks and a grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from nightshift.families.learner import Array
from nightshift.metrics import PANELS, chart_title, curve_label
from worker.training.canvas import Canvas, printable, size_of

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
BLUE, ORANGE, GREEN, RED = "#2563eb", "#ea580c", "#059669", "#dc2626"

History = Mapping[str, Sequence[Sequence[float]]]

#: Sizes of text (points) and, in pixels, the gap beside text and the heights of a panel's title and labels.
TITLE, LABEL, TICK = 11.0, 9.0, 8.0
GAP, HEAD, _LABEL_LINE = 8, 34, 28
#: Pixels between ticks, at least: along the x-axis and the y-axis.
_APART_X, _APART_Y = 90, 60
#: Characters shown of a name.
_MOST_LETTERS = 40
#: Degrees of slanted texts.
_SLANT = 40.0

#: Left, bottom, width and height in pixels.
Area = tuple[float, float, float, float]
Ticks = Sequence[tuple[float, str]]


def shown(name: str) -> str:
    """Return a name for a figure, shortened if it is long."""
    name = printable(name)
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"


def ticks(low: float, high: float, most: int, whole: bool = False) -> Ticks:
    """Return at most about so many round (or whole) numbers from low to high, with their texts."""
    locator = MaxNLocator(max(1, most), steps=[1, 2, 2.5, 5, 10], integer=whole)
    places: list[float] = np.atleast_1d(locator.tick_values(low, high)).tolist()
    places = [place for place in places if place == round(place)] if whole else places
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    formatter.create_dummy_axis()
    texts = formatter.format_ticks(places)
    slack = (high - low) * 1e-9
    return [(place, text) for place, text in zip(places, texts, strict=True) if low - slack <= place <= high + slack]


def widest(texts: Iterable[str]) -> float:
    """Return the width of the widest text of ticks (pixels)."""
    return max((size_of(text, TICK)[0] for text in texts), default=0.0)


def around(values: Array) -> tuple[float, float]:
    """Return limits a little wider than the finite values."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.05 * abs(low) or 0.05
    return low - margin, high + margin


@dataclass(frozen=True)
class Entry:
    """A line of a legend."""

    text: str
    color: str | tuple[float, ...]
    dashes: tuple[float, float] | None = None


class Panel:
    """Axes in a part of a canvas. What is drawn is given in the units of the axes."""

    def __init__(
        self,
        canvas: Canvas,
        area: Area,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        title: str = "",
        xlabel: str = "",
        ylabel: str = "",
        xticks: Ticks | None = None,
        yticks: Ticks | None = None,
        grid: bool = True,
        slants: bool = False,
    ) -> None:
        """Draw title, labels, ticks and grid. `area` (left, bottom, width, height) is for all of them, in pixels.

        Ticks that are not given are round numbers. `slants`: the texts along the x-axis are long.
        """
        left, bottom, width, height = area
        self.canvas, self.x, self.y = canvas, x, y
        top = bottom + height - HEAD
        yticks = ticks(*y, round((height - HEAD) / _APART_Y)) if yticks is None else yticks
        left += GAP + (_LABEL_LINE if ylabel else 0) + max((size_of(text, TICK)[0] for _, text in yticks), default=0)
        left += GAP
        right = area[0] + width - 2 * GAP
        slant = _SLANT if slants else 0.0
        xticks = ticks(*x, round((right - left) / _APART_X)) if xticks is None else xticks
        bottom += (_LABEL_LINE if xlabel else GAP) + _below(xticks, slant)
        self.left, self.bottom, self.width, self.height = left, bottom, right - left, top - bottom
        if grid:
            self._grid(xticks, yticks)
        self._texts(xticks, yticks, slant)
        canvas.text(left, top + 12, title, TITLE, INK, weight="bold")
        canvas.text(left + self.width / 2, area[1] + GAP, xlabel, LABEL, MUTED, across="center")
        middle = bottom + self.height / 2
        canvas.text(area[0] + 2 * GAP, middle, ylabel, LABEL, MUTED, across="center", angle=90)

    def _grid(self, xticks: Ticks, yticks: Ticks) -> None:
        right, top = self.left + self.width, self.bottom + self.height
        for at in self.across([place for place, _ in xticks]):
            self.canvas.line([round(at)] * 2, [self.bottom, top], GRID, 0.8)
        for at in self.along([place for place, _ in yticks]):
            self.canvas.line([self.left, right], [round(at)] * 2, GRID, 0.8)

    def _texts(self, xticks: Ticks, yticks: Ticks, slant: float) -> None:
        below = self.bottom - GAP
        for at, (_, text) in zip(self.across([place for place, _ in xticks]), xticks, strict=True):
            height = size_of(text, TICK)[1]
            if slant:
                self.canvas.text(at + 4, below - 4, text, TICK, MUTED, across="right", along="middle", angle=slant)
            else:
                self.canvas.text(at, below - height, text, TICK, MUTED, across="center")
        for at, (_, text) in zip(self.along([place for place, _ in yticks]), yticks, strict=True):
            self.canvas.text(self.left - GAP, at, text, TICK, MUTED, across="right", along="middle")

    # -- positions --------------------------------------------------------------------------------

    def across(self, values: Sequence[float] | Array) -> Array:
        """Return the pixels of x."""
        return _scaled(values, self.x, self.left, self.width)

    def along(self, values: Sequence[float] | Array) -> Array:
        """Return the pixels of y."""
        return _scaled(values, self.y, self.bottom, self.height)

    @property
    def inside(self) -> Area:
        """Return left, bottom, width and height of what the axes enclose, in pixels."""
        return self.left, self.bottom, self.width, self.height

    # -- contents ---------------------------------------------------------------------------------

    def line(
        self,
        xs: Sequence[float] | Array,
        ys: Sequence[float] | Array,
        color: str | tuple[float, ...],
        width: float = 1.8,
        dashes: tuple[float, float] | None = None,
    ) -> None:
        """Draw a line."""
        self.canvas.line(self.across(xs), self.along(ys), color, width, dashes=dashes, clip=self.inside)

    def dots(
        self,
        xs: Sequence[float] | Array,
        ys: Sequence[float] | Array,
        color: str,
        size: float = 4.0,
        alpha: float = 1.0,
    ) -> None:
        """Draw dots."""
        self.canvas.dots(self.across(xs), self.along(ys), color, size, alpha=alpha)

    def vertical(self, x: float, color: str) -> None:
        """Draw a dashed line from bottom to top."""
        self.line([x, x], self.y, color, 1.2, (4, 3))

    def legend(self, entries: Sequence[Entry], right: float, top: float, size: float = TICK) -> None:
        """Draw a legend in one column that ends at these pixels."""
        wide = widest(entry.text for entry in entries)
        for number, entry in enumerate(entries):
            y = top - 10 - round(size * 2.6) * number
            self._entry(entry, right - wide - 34, y, size)

    def legend_in_head(self, entries: Sequence[Entry]) -> None:
        """Draw a legend in the line of the title, at its right end, where it hides nothing."""
        right, y = self.left + self.width, self.bottom + self.height + 16
        for entry in reversed(entries):
            right -= round(size_of(entry.text, TICK)[0]) + 36
            self._entry(entry, right, y, TICK)
            right -= 2 * GAP

    def _entry(self, entry: Entry, left: float, y: float, size: float) -> None:
        self.canvas.line([left, left + 26], [y, y], entry.color, 1.8, dashes=entry.dashes)
        self.canvas.text(left + 34, y, entry.text, size, INK, along="middle")


def _scaled(values: Sequence[float] | Array, limits: tuple[float, float], start: float, length: float) -> Array:
    low, high = limits
    scaled: Array = start + (np.asarray(values, np.float64) - low) / (high - low) * length
    return scaled


def _below(xticks: Ticks, slant: float) -> float:
    """Return the height of the texts along the x-axis."""
    high = max((size_of(text, TICK)[1] for _, text in xticks), default=0.0)
    return GAP + high + math.sin(math.radians(slant)) * widest(text for _, text in xticks)


def side_by_side(canvas: Canvas, count: int) -> Iterator[Area]:
    """Return the areas of so many panels in a row."""
    width = canvas.width / count
    return ((number * width, 0.0, width, float(canvas.height)) for number in range(count))


def load_fonts() -> None:
    """Draw letters and drop them: forked processes then have the fonts and what else a picture loads."""
    canvas = Canvas(100, 100)
    for weight in ("normal", "bold"):
        for size in (TITLE, LABEL, TICK):
            canvas.text(10, 10, "letter", size, INK, weight=weight)
    canvas.encode(BytesIO())


def draw_curves(history: History, path: Path, best_step: int | None = None) -> Path:
    """Draw one panel per kind of metric recorded; the step of the best model is marked."""
    panels = [(chart_title(names[0]), [name for name in names if history.get(name)]) for names in PANELS]
    panels = [(title, names) for title, names in panels if names] or [("loss", [])]
    canvas = Canvas(624 * len(panels), 432)
    for area, (title, names) in zip(side_by_side(canvas, len(panels)), panels, strict=True):
        lines = {name: _columns(history[name]) for name in names}
        xs, ys = (np.concatenate([line[i] for line in lines.values()] or [np.empty(0)]) for i in (0, 1))
        steps = around(np.append(xs, best_step) if best_step is not None else xs)
        marks = ticks(*steps, 6, whole=True)
        panel = Panel(canvas, area, steps, around(ys), title=title, xlabel="step", xticks=marks)
        for name, color in zip(names, (BLUE, ORANGE), strict=False):
            panel.line(*lines[name], color)
            # A line of one point would not be seen.
            if name.startswith("val_") or len(lines[name][0]) == 1:
                panel.dots(*lines[name], color)
        entries = [Entry(curve_label(name), color) for name, color in zip(names, (BLUE, ORANGE), strict=False)]
        if best_step is not None:
            panel.vertical(best_step, GREEN)
            entries.append(Entry("best model", GREEN, (4, 3)))
        panel.legend_in_head(entries if names else [])
    return canvas.save(path)


def _columns(points: Sequence[Sequence[float]]) -> tuple[Array, Array]:
    table = np.asarray(points, np.float64)
    return table[:, 0], table[:, 1]
