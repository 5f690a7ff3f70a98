"""A picture that is drawn at once: lines and images by matplotlib's renderer, text by Pillow.

A figure of matplotlib costs most of the processor time of a small job: it keeps each tick and label as objects and
draws them twice to lay them out, and a line of text takes it fifteen times as long. Positions are pixels from the lower
left corner; sizes of text and widths of lines are points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.path import Path as Line
from matplotlib.transforms import Bbox, IdentityTransform
from PIL import Image, ImageDraw, ImageFont

from nightshift.families.learner import Array

DPI = 120
#: Level of PNG compression: the default of 6 takes 1.5 times as long, and makes files a fifth smaller.
_COMPRESSION = 3
_STAY = IdentityTransform()


@lru_cache(maxsize=32)
def _font(size: float, weight: str) -> ImageFont.FreeTypeFont:
    """Return matplotlib's own font in a size (points)."""
    file = findfont(FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(file, size * DPI / 72, layout_engine=ImageFont.Layout.BASIC)


def printable(text: str) -> str:
    """Return a line that the fonts can draw: control characters are spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def size_of(text: str, size: float, weight: str = "normal") -> tuple[float, float]:
    """Return width and height of a line of text (pixels)."""
    font, text = _font(size, weight), printable(text)
    _, top, _, bottom = font.getbbox(text, anchor="ls")
    return font.getlength(text), bottom - top


@dataclass(frozen=True)
class _Text:
    x: float
    y: float
    text: str
    font: ImageFont.FreeTypeFont
    color: str
    anchor: str
    angle: float


class Canvas:
    """A white picture of a size in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        make: Any = RendererAgg
        self._renderer = make(width, height, DPI)
        self._texts: list[_Text] = []
        self.box(0, 0, width, height, fill="white")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        color: str,
        *,
        weight: str = "normal",
        across: Literal["left", "center", "right"] = "left",
        along: Literal["baseline", "middle"] = "baseline",
        angle: float = 0.0,
    ) -> None:
        """Draw a line of text over everything else. A turned one is turned around its point, counterclockwise."""
        anchor = {"left": "l", "center": "m", "right": "r"}[across] + {"baseline": "s", "middle": "m"}[along]
        self._texts.append(_Text(x, self.height - y, printable(text), _font(size, weight), color, anchor, angle))

    # -- shapes -----------------------------------------------------------------------------------

    def line(
        self,
        xs: Sequence[float] | Array,
        ys: Sequence[float] | Array,
        color: str | tuple[float, ...],
        width: float,
        *,
        dashes: tuple[float, float] | None = None,
        clip: tuple[float, float, float, float] | None = None,
    ) -> None:
        """Draw a line through points; those that are not finite interrupt it. `clip`: left, bottom, width, height."""
        pen = self._pen(color, width, clip)
        if dashes is not None:
            pen.set_dashes(0, [length * width for length in dashes])
        else:
            pen.set_capstyle("projecting")
        pen.set_joinstyle("round")
        self._renderer.draw_path(pen, Line(np.column_stack([xs, ys])), _STAY)

    def dots(
        self,
        xs: Sequence[float] | Array,
        ys: Sequence[float] | Array,
        color: str,
        width: float,
        *,
        alpha: float = 1.0,
    ) -> None:
        """Draw a filled circle of a diameter (points) at each point."""
        pen = self._pen(color, 0.0)
        pen.set_alpha(alpha)
        circle = Line.unit_circle()
        radius = width * DPI / 144
        shape = Line(np.asarray(circle.vertices, np.float64) * radius, circle.codes)
        fill = (*to_rgba(color)[:3], alpha)
        self._renderer.draw_markers(pen, shape, _STAY, Line(np.column_stack([xs, ys])), _STAY, fill)

    def box(
        self,
        left: float,
        bottom: float,
        width: float,
        height: float,
        *,
        fill: str | None = None,
        edge: str | None = None,
        line: float = 0.0,
    ) -> None:
        """Draw a rectangle: filled, with a line around it, or both."""
        corners = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
        shape = Line([(left + x * width, bottom + y * height) for x, y in corners], closed=True)
        pen = self._pen(edge or "black", line if edge else 0.0)
        pen.set_joinstyle("miter")
        self._renderer.draw_path(pen, shape, _STAY, to_rgba(fill) if fill else None)

    def picture(self, left: float, top: float, width: float, height: float, pixels: Array) -> None:
        """Draw an image [rows, columns] of gray or [rows, columns, 3] of colors (uint8), enlarged to squares."""
        wide, high = max(1, round(width)), max(1, round(height))
        image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGBA")
        smaller = image.width > wide or image.height > high
        image = image.resize((wide, high), Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)
        bottom = self.height - round(self.height - top) - high
        self._renderer.draw_image(self._pen("black", 0.0), round(left), bottom, np.asarray(image)[::-1])

    def _pen(
        self, color: str | tuple[float, ...], width: float, clip: tuple[float, float, float, float] | None = None
    ) -> Any:
        pen = self._renderer.new_gc()
        pen.set_foreground(color)
        pen.set_linewidth(width)
        if clip is not None:
            pen.set_clip_rectangle(Bbox.from_bounds(*clip))
        return pen

    # -- the file ---------------------------------------------------------------------------------

    def save(self, path: Path) -> Path:
        """Write a PNG file and return the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.encode(path)
        return path

    def encode(self, file: Path | BytesIO) -> None:
        """Write the picture as PNG."""
        image = Image.fromarray(np.ascontiguousarray(np.asarray(self._renderer.buffer_rgba())[..., :3]))
        for text in self._texts:
            _write(image, text)
        image.save(file, format="PNG", compress_level=_COMPRESSION, dpi=(DPI, DPI))


def _write(image: Image.Image, one: _Text) -> None:
    if not one.angle:
        ImageDraw.Draw(image).text((one.x, one.y), one.text, one.color, one.font, anchor=one.anchor)
        return
    # The point is the middle of a square that holds the text at any angle.
    reach = round(one.font.getlength(one.text) + 2 * one.font.size)
    mask = Image.new("L", (2 * reach + 1, 2 * reach + 1))
    ImageDraw.Draw(mask).text((reach, reach), one.text, 255, one.font, anchor=one.anchor)
    turned = mask.rotate(one.angle, Image.Resampling.BICUBIC)
    image.paste(Image.new("RGB", mask.size, one.color), (round(one.x) - reach, round(one.y) - reach), turned)
