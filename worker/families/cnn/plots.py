"""Plots of a classifier of images: those of any classifier, and a 5x5 grid of predictions."""

from __future__ import annotations

from pathlib import Path

from nightshift.families.learner import Array, Evaluation
from worker.training.canvas import Canvas
from worker.training.classification import plots as classification
from worker.training.plots import GREEN, GRID, INK, RED, TITLE, History, shown

#: Images per row; pixels of an image's longer side, of the gap between two, of a title, of the line above all, and of
#: the margin.
_PER_ROW, _SIDE, _BETWEEN, _TITLE, _TOP, _MARGIN = 5, 170, 12, 24, 40, 16


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    paths = classification.draw(report, history, folder, best_step)
    return [*paths, draw_predictions(report, folder / "predictions.png")] if report.document else paths


def draw_predictions(report: Evaluation, path: Path) -> Path:
    """Draw 25 images with predicted and true classes; mistakes are framed in red."""
    classes, arrays = [shown(name) for name in report.document["classes"]], report.arrays
    step, row = _SIDE + _BETWEEN, _SIDE + _BETWEEN + _TITLE
    canvas = Canvas(2 * _MARGIN + _PER_ROW * step - _BETWEEN, _TOP + _PER_ROW * row + _MARGIN)
    title = "predictions on the test part · mistakes first, framed in red"
    canvas.text(_MARGIN, canvas.height - 24, title, TITLE, INK, weight="bold")
    for i, picture in enumerate(arrays["pictures"]):
        truth, guess = int(arrays["labels"][i]), int(arrays["predicted"][i])
        left, top = _MARGIN + step * (i % _PER_ROW), canvas.height - _TOP - _TITLE - row * (i // _PER_ROW)
        name = classes[guess] if truth == guess else f"{classes[guess]}, is {classes[truth]}"
        color = GREEN if truth == guess else RED
        text = f"{name}  {arrays['confidence'][i]:.0%}"
        canvas.text(left + _SIDE / 2, top + 8, text, 9, color, weight="bold", across="center")
        _draw_picture(canvas, left, top, picture)
        canvas.box(left, top - _SIDE, _SIDE, _SIDE, edge=GRID if truth == guess else RED, line=2.5)
    return canvas.save(path)


def _draw_picture(canvas: Canvas, left: float, top: float, picture: Array) -> None:
    high, wide = (_SIDE * pixels / max(picture.shape[:2]) for pixels in picture.shape[:2])
    canvas.picture(left, top, wide, high, picture[..., 0] if picture.shape[2] == 1 else picture)
