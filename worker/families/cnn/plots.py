"""Plots of a classifier of images: those of any classifier, and a 5x5 grid of predictions."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from nightshift.families.learner import Array, Evaluation
from worker.training.charts import GREEN, GRID, INK, RED, TITLE, Chart, width_of
from worker.training.classification import plots as classification
from worker.training.plots import History, shown

#: Images per row; pixels of an image's longer side, of its frame, of the gap between two, of the two lines above each,
#: of a line, of the line above all, and of the margin.
_PER_ROW, _SIDE, _FRAME, _BETWEEN, _LINES, _LINE, _TOP, _MARGIN = 5, 170, 4, 14, 46, 17, 34, 16
_STEP, _ROW = _SIDE + _BETWEEN, _SIDE + _LINES
#: Size of the texts above images (points).
_SIZE = 8.0


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    paths = classification.draw(report, history, folder, best_step)
    return [*paths, draw_predictions(report, folder / "predictions.png")] if report.document else paths


def draw_predictions(report: Evaluation, path: Path) -> Path:
    """Draw 25 images with predicted and true classes; mistakes are framed in red."""
    classes, arrays = report.document["classes"], report.arrays
    chart = Chart(_PER_ROW * _STEP - _BETWEEN + 2 * _MARGIN, _TOP + _PER_ROW * _ROW + _MARGIN)
    title = "predictions on the test part · mistakes first, framed in red"
    chart.text(_MARGIN, _MARGIN, title, TITLE, INK, anchor="la", bold=True)
    for i, picture in enumerate(arrays["pictures"]):
        truth, guess = int(arrays["labels"][i]), int(arrays["predicted"][i])
        left, top = _MARGIN + _STEP * (i % _PER_ROW), _TOP + _LINES + _ROW * (i // _PER_ROW)
        lines = [f"{_fitting(classes[guess])}  {arrays['confidence'][i]:.0%}"]
        lines += [] if truth == guess else [f"is {_fitting(classes[truth])}"]
        color, frame = (GREEN, GRID) if truth == guess else (RED, RED)
        for above, line in enumerate(reversed(lines)):
            place = (left + _SIDE / 2, top - 8 - above * _LINE)
            chart.text(*place, line, _SIZE, color, anchor="ms", bold=True)
        chart.picture(_tile(picture, frame), left, top)
    return chart.save(path)


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
    name, room = shown(name), _STEP - width_of("  100%", _SIZE, bold=True)
    while (width := width_of(name, _SIZE, bold=True)) > room:
        name = name[: min(len(name) - 2, int(len(name) * room / width))] + "…"
    return name
