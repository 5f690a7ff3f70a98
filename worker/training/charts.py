"""Charts: panels with axes, drawn in a fraction of the time that matplotlib's own axes take.

matplotlib draws curves and chooses the numbers along axes, Pillow writes texts and fills rectangles. Places and sizes
are pixels from the upper left corner; sizes of texts are points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, IdentityTransform
from PIL import Image, ImageDraw, ImageFont

from nightshift.families.learner import Array

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
BLUE, ORANGE, GREEN, RED = "#2563eb", "#ea580c", "#059669", "#dc2626"

#: Pixels per inch, and sizes of the texts of titles, labels, and of ticks and legends.
DPI = 120
TITLE, LABEL, TICK = 11.0, 9.0, 8.0
#: Heights of the title with what is above it and of the line of an axis' label, the gap beside texts, and what is left
#: free at the right.
HEAD, LINE, GAP, RIGHT = 43, 29, 8, 30
#: Line of a legend: its height, and the width of its sample of a curve.
_ENTRY, _SAMPLE = 18, 26
#: Numbers at most along an axis, which steps there are between them, and the share of its length left free at each end.
_MOST_TICKS, _STEPS, _MARGIN = 5, [1, 2, 2.5, 5, 10], 0.05
#: Lengths of dashes and of the gaps between them, in widths of the line.
_DASHED = (0, (4, 3))
#: Level of PNG compression: the default of 6 takes 1.4 times as long.
_COMPRESSION = 3

#: The least and largest value along an axis.
Limits = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


# -- texts ----------------------------------------------------------------------------------------


@cache
def _font(size: float, bold: bool) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if bold else ''}.ttf")
    return ImageFont.truetype(path, size * DPI / 72, layout_engine=ImageFont.Layout.BASIC)


def width_of(text: str, size: float = TICK, bold: bool = False) -> float:
    """Return the width of a line of text."""
    return _font(size, bold).getlength(text)


def widest(texts: Iterable[str]) -> float:
    """Return the width of the widest text of ticks."""
    return max(map(width_of, texts), default=0.0)


# -- a chart --------------------------------------------------------------------------------------


class Chart:
    """A white image: first its curves are drawn, then everything else in the order of the calls."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = round(width), round(height)
        self._figure = Figure((self.width / DPI, self.height / DPI), dpi=DPI, facecolor="white", edgecolor="none")
        self._others: list[Callable[[Image.Image, ImageDraw.ImageDraw], object]] = []

    def curve(self, x: Array, y: Array, within: Box | None = None, *, dashed: bool = False, **style: Any) -> None:
        """Draw a curve; `style` is that of matplotlib's `Line2D`, with widths and sizes in points."""
        style = {"linestyle": _DASHED if dashed else "-", "marker": "none", **style}
        line = Line2D(x, self.height - np.asarray(y), transform=IdentityTransform(), **style)
        if within is not None:
            bottom, top = self.height - within.bottom, self.height - within.top
            line.set_clip_box(Bbox.from_extents(within.left, bottom, within.right, top))
        self._figure.add_artist(line)

    def rectangle(self, box: Box, color: str) -> None:
        """Fill a rectangle."""
        corners = [round(box.left), round(box.top), round(box.right) - 1, round(box.bottom) - 1]
        if corners[0] <= corners[2] and corners[1] <= corners[3]:
            self._others.append(lambda _, draw: draw.rectangle(corners, color))

    def picture(self, picture: Image.Image, left: float, top: float) -> None:
        """Put a picture at a place."""
        corner = (round(left), round(top))
        self._others.append(lambda image, _: image.paste(picture, corner))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = TICK,
        color: str = MUTED,
        *,
        anchor: str = "lm",
        bold: bool = False,
    ) -> None:
        """Write a line of text; `anchor` is what of it is at the place, as Pillow names it."""
        font = _font(size, bold)
        self._others.append(lambda _, draw: draw.text((x, y), text, color, font, anchor))

    def turned_text(
        self, x: float, y: float, text: str, size: float, color: str, *, degrees: float, ends: bool = False
    ) -> None:
        """Write a line of text that rises by so many degrees; its middle, or its right end, is at the place."""
        font = _font(size, False)
        width, height = math.ceil(font.getlength(text)) + 2, round(1.4 * size * DPI / 72)
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).text((width - 1, height / 2), text, 255, font, "rm")
        turned = mask.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        back = width / 2 if ends else 0.0
        angle = math.radians(degrees)
        corner = (
            round(x - back * math.cos(angle) - turned.width / 2),
            round(y + back * math.sin(angle) - turned.height / 2),
        )
        self._others.append(lambda image, _: image.paste(color, corner, turned))

    def image(self) -> Image.Image:
        """Draw everything."""
        image = self._curves() if self._figure.artists or self._figure.lines else self._blank()
        draw = ImageDraw.Draw(image)
        for other in self._others:
            other(image, draw)
        return image

    def _blank(self) -> Image.Image:
        return Image.new("RGB", (self.width, self.height), "white")

    def _curves(self) -> Image.Image:
        canvas: Any = FigureCanvasAgg(self._figure)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")

    def save(self, path: Path) -> Path:
        """Draw everything into a PNG file and return the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write(path)
        return path

    def write(self, file: Path | IO[bytes]) -> None:
        """Draw everything into a PNG file."""
        self.image().save(file, format="PNG", compress_level=_COMPRESSION, dpi=(DPI, DPI))


# -- panels ---------------------------------------------------------------------------------------


@dataclass
class _Curve:
    x: Array
    y: Array
    style: dict[str, Any]


@dataclass
class Panel:
    """Axes with a title. What is drawn in it sets its limits, unless they are given."""

    title: str
    xlabel: str = ""
    ylabel: str = ""
    xlim: Limits | None = None
    ylim: Limits | None = None
    #: Whether x has whole numbers only.
    whole: bool = False
    #: Texts along the y axis by their places, instead of numbers.
    yticks: dict[float, str] | None = None
    #: (name, color, whether it is dashed) of the legend in the line of the title.
    legend: list[tuple[str, str, bool]] = field(default_factory=list)
    _curves: list[_Curve] = field(default_factory=list)
    _bars: list[tuple[Box, str]] = field(default_factory=list)
    #: (x, y, text) beside bars.
    _notes: list[tuple[float, float, str]] = field(default_factory=list)
    #: (x or y, color, whether it is dashed) of lines from end to end.
    _across: dict[str, list[tuple[float, str, bool]]] = field(default_factory=lambda: {"x": [], "y": []})

    def curve(self, x: Sequence[float] | Array, y: Sequence[float] | Array, color: Any, **style: Any) -> None:
        """Draw a curve; values that are not finite are left out. `style` as in `Chart.curve`."""
        style = {"linewidth": 1.8, **style}
        self._curves.append(_Curve(np.asarray(x, float), np.asarray(y, float), {"color": color, **style}))

    def points(self, x: Array, y: Array, color: str) -> None:
        """Draw points that show where they are dense."""
        self.curve(x, y, color, linestyle="none", marker="o", markersize=3, markeredgewidth=0, alpha=0.5)

    def bar(self, left: float, right: float, bottom: float, top: float, color: str, note: str = "") -> None:
        """Fill a rectangle, with a text at its right."""
        self._bars.append((Box(left, top, right, bottom), color))
        if note:
            self._notes.append((right, (bottom + top) / 2, note))

    def across(self, axis: str, at: float, color: str, dashed: bool = True) -> None:
        """Draw a line from end to end: `axis` "x" for a vertical one at this x, "y" for a horizontal one."""
        self._across[axis].append((at, color, dashed))

    @property
    def left(self) -> float:
        """Width of what stands at the left of the axes."""
        names = self.yticks.values() if self.yticks is not None else self._ticks("y").values()
        return (LINE if self.ylabel else 0) + GAP + widest(names) + GAP

    def draw(self, chart: Chart, box: Box) -> None:
        """Draw the panel; `box` is the area between its axes."""
        place = _Place(box, self._limits("x"), self._limits("y"))
        self._draw_grid(chart, place)
        for curve in self._curves:
            chart.curve(place.x(curve.x), place.y(curve.y), box, **curve.style)
        for bar, color in self._bars:
            chart.rectangle(Box(*place.at(bar.left, bar.top), *place.at(bar.right, bar.bottom)), color)
        for axis, lines in self._across.items():
            for at, color, dashed in lines:
                _draw_across(chart, *place.across(axis, at), color, dashed)
        for x, y, note in self._notes:
            right, middle = place.at(x, y)
            chart.text(right + GAP / 2, middle, note, 7, INK)
        chart.text(box.left, box.top - GAP, self.title, TITLE, INK, anchor="ls", bold=True)
        _draw_legend(chart, self.legend, box)

    def _draw_grid(self, chart: Chart, place: _Place) -> None:
        box = place.box
        for value, text in self._ticks("x").items():
            x, y = place.across("x", value)
            chart.curve(x, y, color=GRID, linewidth=0.8)
            chart.text(x[0], box.bottom + GAP, text, anchor="ma")
        for value, text in (self.yticks if self.yticks is not None else self._ticks("y")).items():
            x, y = place.across("y", value)
            chart.curve(x, y, color=GRID, linewidth=0.8)
            chart.text(box.left - GAP, y[0], text, anchor="rm")
        label_axes(chart, box, self.left, self.xlabel, self.ylabel)

    def _ticks(self, axis: str) -> dict[float, str]:
        """Return the numbers along an axis."""
        return ticks_between(*self._limits(axis), whole=self.whole and axis == "x")

    def _limits(self, axis: str) -> Limits:
        given = self.xlim if axis == "x" else self.ylim
        if given is not None:
            return given
        values = [getattr(curve, axis) for curve in self._curves]
        values += [np.array([at for at, _, _ in self._across[axis]])] if axis == "x" else []
        sides = ("left", "right") if axis == "x" else ("bottom", "top")
        values += [np.array([getattr(bar, side) for bar, _ in self._bars for side in sides])]
        return limits_of(np.concatenate(values))


def _draw_across(chart: Chart, x: Array, y: Array, color: str, dashed: bool) -> None:
    """Draw a line from end to end, over bars if it is not dashed."""
    if dashed:
        chart.curve(x, y, dashed=True, color=color, linewidth=1.2)
    else:
        chart.rectangle(Box(x[0] - 1, y[0] - 1, x[1] + 1, y[1] + 1), color)


@dataclass(frozen=True)
class _Place:
    """Where values are: in a box, between two limits along each axis."""

    box: Box
    xlim: Limits
    ylim: Limits

    def x(self, values: Array) -> Array:
        first, last = self.xlim
        found: Array = self.box.left + (values - first) / (last - first) * self.box.width
        return found

    def y(self, values: Array) -> Array:
        first, last = self.ylim
        found: Array = self.box.bottom - (values - first) / (last - first) * self.box.height
        return found

    def across(self, axis: str, at: float) -> tuple[Array, Array]:
        """Return the ends of a line from end to end, at a value of an axis."""
        values = np.array([at, at])
        if axis == "x":
            return self.x(values), np.array([self.box.top, self.box.bottom])
        return np.array([self.box.left, self.box.right]), self.y(values)

    def at(self, x: float, y: float) -> tuple[float, float]:
        return float(self.x(np.array(x))), float(self.y(np.array(y)))


def limits_of(values: Array) -> Limits:
    """Return the limits of an axis for values, with room beside them."""
    finite = values[np.isfinite(values)]
    first, last = MaxNLocator().nonsingular(*((finite.min(), finite.max()) if finite.size else (0, 1)))
    room = _MARGIN * (last - first)
    return float(first - room), float(last + room)


def ticks_between(first: float, last: float, whole: bool = False) -> dict[float, str]:
    """Return few round (or whole) numbers between two limits, each with its text."""
    chosen = MaxNLocator(_MOST_TICKS, steps=_STEPS, integer=whole, min_n_ticks=1 if whole else 2)
    low, high = sorted((first, last))
    return {float(one): f"{one:.10g}" for one in chosen.tick_values(low, high) if low <= one <= high}


def label_axes(chart: Chart, box: Box, left: float, xlabel: str, ylabel: str, below: float | None = None) -> None:
    """Write the labels of axes. `left` and `below` are the widths of what stands beside the box with them."""
    foot = box.bottom + (below if below is not None else foot_of(xlabel))
    if xlabel:
        chart.text((box.left + box.right) / 2, foot - LINE / 2, xlabel, LABEL, anchor="mm")
    if ylabel:
        middle = (box.top + box.bottom) / 2
        chart.turned_text(box.left - left + LINE / 2, middle, ylabel, LABEL, MUTED, degrees=90)


def foot_of(xlabel: str) -> float:
    """Return the height of what stands below axes with numbers."""
    return 2 * GAP + TICK * DPI / 72 + (LINE if xlabel else 0)


def _draw_legend(chart: Chart, entries: Sequence[tuple[str, str, bool]], box: Box) -> None:
    """Draw a legend in the line of the title, at its right end, where it hides nothing."""
    right, middle = box.right, box.top - GAP - 7
    for name, color, dashed in reversed(entries):
        right -= width_of(name)
        chart.text(right, middle, name, TICK, INK)
        _draw_sample(chart, right - GAP, middle, color, dashed)
        right -= _SAMPLE + 2 * GAP + GAP


def _draw_sample(chart: Chart, right: float, middle: float, color: str, dashed: bool = False) -> None:
    ends = np.array([right - _SAMPLE, right])
    chart.curve(ends, np.array([middle, middle]), dashed=dashed, color=color, linewidth=1.2 if dashed else 1.8)


def draw_list(chart: Chart, left: float, top: float, title: str, entries: Iterable[tuple[str, Any]]) -> None:
    """Draw a legend of its own, one line below the other: (name, color)."""
    chart.text(left, top, title, TICK, INK)
    for line, (name, color) in enumerate(entries, 1):
        _draw_sample(chart, left + _SAMPLE, top + line * _ENTRY, to_hex(color))
        chart.text(left + _SAMPLE + GAP, top + line * _ENTRY, name, TICK, INK)


def draw_row(panels: Sequence[Panel], width: float, height: float, beside: float = 0.0) -> tuple[Chart, list[Box]]:
    """Draw panels beside each other, `beside` free at the right of all; return the chart and their boxes."""
    chart = Chart(width, height)
    left, foot = max(panel.left for panel in panels), foot_of(max(panel.xlabel for panel in panels))
    each = (chart.width - beside) / len(panels)
    boxes = [
        Box(place * each + left, HEAD, (place + 1) * each - RIGHT, chart.height - foot) for place in range(len(panels))
    ]
    for panel, box in zip(panels, boxes, strict=True):
        panel.draw(chart, box)
    return chart, boxes
