"""Curves in a terminal: sparklines of one line, and charts with axes and a legend."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from nightshift.cli.render.output import number

BLOCKS = "▁▂▃▄▅▆▇█"
#: Curves differ by color on a color terminal, else by mark.
COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue", "white")
MARKS = "●×+○*#%"
#: Bits of the 2 x 4 dots of a braille character, by row and column.
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
#: Width of the numbers left of the vertical axis (characters).
GUTTER = 10


def spark(values: Sequence[float], width: int = 40) -> str:
    """Return the series as one line of blocks; longer series are sampled evenly."""
    seen = [value for value in values if math.isfinite(value)]
    if not seen:
        return ""
    picked = [seen[round(i * (len(seen) - 1) / (width - 1))] for i in range(width)] if len(seen) > width else seen
    low, high = min(picked), max(picked)
    return "".join(BLOCKS[round((value - low) / (high - low) * 7) if high > low else 0] for value in picked)


@dataclass(frozen=True)
class Curve:
    """The points of one curve, sorted by step."""

    label: str
    points: Sequence[tuple[float, float]]  # (step, value)


@dataclass(frozen=True)
class Frame:
    """The mapping of values to dots. `log`: the vertical axis is logarithmic."""

    left: float
    right: float
    low: float
    high: float
    log: bool

    @classmethod
    def around(cls, curves: Sequence[Curve], log: bool) -> Frame:
        """Return the frame that fits the curves."""
        xs = [x for curve in curves for x, _ in curve.points]
        ys = [y for curve in curves for _, y in curve.points]
        return cls(min(xs), max(xs), min(ys), max(ys), log)

    def place(self, x: float, y: float, columns: int, rows: int) -> tuple[int, int]:
        """Return the dot (column, row) of a point; row 0 is the top."""
        across = (x - self.left) / (self.right - self.left) if self.right > self.left else 0.5
        up = (self._scale(y) - self._scale(self.low)) / (self._span or 1.0) if self._span else 0.5
        return round(across * (columns - 1)), round((1 - up) * (rows - 1))

    def value_at(self, up: float) -> float:
        """Return the value at a height from 0 (bottom) to 1 (top)."""
        level = self._scale(self.low) + up * self._span
        return 10**level if self.log else level

    @property
    def _span(self) -> float:
        return self._scale(self.high) - self._scale(self.low)

    def _scale(self, y: float) -> float:
        return math.log10(y) if self.log else y


def drawable(curves: Sequence[Curve], log: bool) -> list[Curve]:
    """Return the curves without points that cannot be drawn: not finite, or not positive on a logarithmic axis."""
    kept = [
        Curve(curve.label, [(x, y) for x, y in curve.points if math.isfinite(y) and (y > 0 or not log)])
        for curve in curves
    ]
    return [curve for curve in kept if curve.points]


def chart(
    title: str, curves: Sequence[Curve], width: int, height: int = 14, *, log: bool = False, color: bool = True
) -> Text:
    """Return the curves in one frame of `width` x `height` characters, with title, axes and legend."""
    curves = drawable(curves, log)
    if not curves:
        return Text(f"{title}: no points to draw")
    frame, columns = Frame.around(curves, log), max(10, width - GUTTER - 2)
    rows = _dotted(curves, frame, columns, height) if color else _marked(curves, frame, columns, height)
    drawn = Text().append(f"{title}{' (log scale)' if log else ''}\n", "bold")
    for index, row in enumerate(rows):
        labelled = index in (0, height // 2, height - 1)
        label = number(frame.value_at(1 - index / (height - 1))) if labelled else ""
        drawn.append(f"{label:>{GUTTER}} ┤" if labelled else f"{'':>{GUTTER}} │", "dim")
        drawn.append_text(row).append("\n")
    left, right = f"{frame.left:,.0f}", f"step {frame.right:,.0f}"
    drawn.append(f"{'':>{GUTTER}} └{'─' * columns}\n", "dim")
    drawn.append(f"{'':>{GUTTER + 2}}{left}{right:>{columns - len(left)}}\n", "dim")
    for index, curve in enumerate(curves):
        mark = "━" if color else MARKS[index % len(MARKS)]
        drawn.append(f"{'':>{GUTTER + 2}}{mark} ", COLORS[index % len(COLORS)] if color else "")
        drawn.append(f"{curve.label}  last {number(curve.points[-1][1])}\n")
    drawn.rstrip()
    return drawn


def _line(curve: Curve, frame: Frame, columns: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the dots of a curve: its points, joined by straight lines."""
    places = [frame.place(x, y, columns, rows) for x, y in curve.points]
    yield places[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(places):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for i in range(1, steps + 1):
            yield x0 + round(i * (x1 - x0) / steps), y0 + round(i * (y1 - y0) / steps)


def _dotted(curves: Sequence[Curve], frame: Frame, columns: int, height: int) -> list[Text]:
    bits = [[0] * columns for _ in range(height)]
    owner = [[0] * columns for _ in range(height)]
    for index, curve in enumerate(curves):
        for x, y in _line(curve, frame, 2 * columns, 4 * height):
            bits[y // 4][x // 2] |= DOTS[y % 4][x % 2]
            owner[y // 4][x // 2] = index
    rows = []
    for line, owners in zip(bits, owner, strict=True):
        row = Text()
        for bit, index in zip(line, owners, strict=True):
            row.append(chr(0x2800 + bit) if bit else " ", COLORS[index % len(COLORS)] if bit else "")
        rows.append(row)
    return rows


def _marked(curves: Sequence[Curve], frame: Frame, columns: int, height: int) -> list[Text]:
    """Return the rows without color: each curve has its own mark."""
    cells = [[" "] * columns for _ in range(height)]
    for index, curve in enumerate(curves):
        for x, y in _line(curve, frame, columns, height):
            cells[y][x] = MARKS[index % len(MARKS)]
    return [Text("".join(line)) for line in cells]
