"""Plots of a classifier of images: those of any classifier, and a 5x5 grid of predictions."""

from __future__ import annotations

from pathlib import Path

from matplotlib.patches import Rectangle

from nightshift.families.learner import Evaluation
from worker.training.classification import plots as classification
from worker.training.plots import GREEN, GRID, INK, RED, History, new_figure, save


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    paths = classification.draw(report, history, folder, best_step)
    return [*paths, draw_predictions(report, folder / "predictions.png")] if report.document else paths


#: Images per row, and in axes units the side of an image and the height of a row with its title.
_PER_ROW, _SIDE, _ROW = 5, 1.0, 1.22


def draw_predictions(report: Evaluation, path: Path) -> Path:
    """Draw 25 images with predicted and true classes; mistakes are framed in red.

    All share one set of axes, because laying out 25 takes longer than training a small model.
    """
    classes, arrays = report.document["classes"], report.arrays
    figure = new_figure(8, 8.9)
    figure.suptitle(
        "predictions on the test part · mistakes first, framed in red",
        x=0.02,
        ha="left",
        color=INK,
        fontsize=11,
        fontweight="bold",
    )
    axes = figure.add_subplot()
    axes.set_axis_off()
    for i, picture in enumerate(arrays["pictures"]):
        truth, guess = int(arrays["labels"][i]), int(arrays["predicted"][i])
        gray = picture.shape[2] == 1
        left, top = 1.08 * (i % _PER_ROW), _ROW * (i // _PER_ROW)
        high, wide = (_SIDE * pixels / max(picture.shape[:2]) for pixels in picture.shape[:2])
        area = (left, left + wide, top + high, top)
        shown = picture[..., 0] if gray else picture
        axes.imshow(shown, cmap="gray" if gray else None, vmin=0, vmax=255, extent=area)
        color = GREEN if truth == guess else RED
        text = classes[guess] if truth == guess else f"{classes[guess]}, is {classes[truth]}"
        title = f"{text}  {arrays['confidence'][i]:.0%}"
        middle = left + _SIDE / 2
        axes.text(middle, top - 0.05, title, color=color, ha="center", fontsize=9, fontweight="bold")
        edge = color if truth != guess else GRID
        axes.add_patch(Rectangle((left, top), _SIDE, _SIDE, fill=False, ec=edge, lw=2.5))
    axes.set(xlim=(-0.02, 1.08 * _PER_ROW - 0.06), ylim=(_ROW * _PER_ROW - 0.2, -0.2))
    return save(figure, path)
