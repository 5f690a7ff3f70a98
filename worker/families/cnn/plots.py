"""Plots of a classifier of images: those of any classifier, and a 5x5 grid of predictions."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from nightshift.families.learner import Array, Evaluation
from worker.training.classification import plots as classification
from worker.training.plots import (
    DPI,
    GREEN,
    GRID,
    INK,
    RED,
    History,
    image_of,
    new_figure,
    save_image,
    shown,
    styled,
    width_of,
)

#: Images per row; pixels of an image's longer side, of its frame, of the gap between two, of the two lines above each,
#: of the line above all, and of the margin.
_PER_ROW, _SIDE, _FRAME, _BETWEEN, _LINES, _TOP, _MARGIN = 5, 170, 4, 14, 46, 34, 16
_STEP, _ROW = _SIDE + _BETWEEN, _SIDE + _LINES
#: Size of the texts above images (points).
_SIZE = 8.0


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    paths = classification.draw(report, history, folder, best_step)
    return [*paths, draw_predictions(report, folder / "predictions.png")] if report.document else paths


@styled
def draw_predictions(report: Evaluation, path: Path) -> Path:
    """Draw 25 images with predicted and true classes; mistakes are framed in red.

    Pillow puts the images between the texts: scaling them in matplotlib takes as long as all the rest.
    """
    classes, arrays = report.document["classes"], report.arrays
    width, height = _PER_ROW * _STEP - _BETWEEN + 2 * _MARGIN, _TOP + _PER_ROW * _ROW + _MARGIN
    figure, tiles = new_figure(width / DPI, height / DPI), {}
    title = "predictions on the test part · mistakes first, framed in red"
    figure.text(_MARGIN / width, 1 - _MARGIN / height, title, va="top", color=INK, fontsize=11, fontweight="bold")
    for i, picture in enumerate(arrays["pictures"]):
        truth, guess = int(arrays["labels"][i]), int(arrays["predicted"][i])
        left, top = _MARGIN + _STEP * (i % _PER_ROW), _TOP + _LINES + _ROW * (i // _PER_ROW)
        tiles[left, top] = _tile(picture, GRID if truth == guess else RED)
        text = f"{_fitting(classes[guess])}  {arrays['confidence'][i]:.0%}"
        text += "" if truth == guess else f"\nis {_fitting(classes[truth])}"
        place = ((left + _SIDE / 2) / width, 1 - (top - 5) / height)
        color = GREEN if truth == guess else RED
        figure.text(*place, text, ha="center", va="bottom", color=color, fontsize=_SIZE, fontweight="bold")
    image = image_of(figure)
    for corner, tile in tiles.items():
        image.paste(tile, corner)
    return save_image(image, path)


def _tile(picture: Array, frame: str) -> Image.Image:
    """Return a picture in the upper left corner of a white square with a frame."""
    inner = _SIDE - 2 * _FRAME
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    high, wide = (max(1, round(inner * pixels / max(picture.shape[:2]))) for pixels in picture.shape[:2])
    image = image.resize((wide, high), Image.Resampling.BOX if image.width > wide else Image.Resampling.NEAREST)
    tile = Image.new("RGB", (inner, inner), "white")
    tile.paste(image)
    return ImageOps.expand(tile, _FRAME, frame)


def _fitting(name: str) -> str:
    """Return a name cut so that it fits over an image, beside a percentage."""
    name, room = shown(name), _STEP / DPI - width_of("  100%", _SIZE, "bold")
    while (width := width_of(name, _SIZE, "bold")) > room:
        name = name[: min(len(name) - 2, int(len(name) * room / width))] + "…"
    return name
