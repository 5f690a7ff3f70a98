"""Plots of a GAN: grids of the same samples after each epoch and at the end, and learning curves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from PIL.Image import Image

from nightshift.families.learner import Array, Evaluation
from shared import image_grid
from worker.training.plots import History, draw_curves

#: Pixels of a sample's longer side in a grid (a whole multiple of the image's), and of the gap between samples.
SIDE, GAP = 84, 4
#: Columns of a grid.
COLUMNS = 8
#: Subfolder of the job's folder for the grids of all attempts.
EPOCHS = "samples"


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    curves = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    return [*curves, draw_grid(report.arrays["samples"], folder / "samples.png")]


def draw_epoch(samples: Array, job_dir: Path, epoch: int) -> None:
    """Write the grid of an epoch into the job's folder, so that a resumed job has the grids of all epochs.

    Written to a temporary file and renamed; an attempt that lost its lease draws the same image.
    """
    target = job_dir / EPOCHS / f"epoch-{epoch:03}.png"
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    grid(samples).save(temporary, format="PNG")
    temporary.replace(target)


def collect_epochs(job_dir: Path, folder: Path, last: int) -> list[Path]:
    """Copy the grids of epochs 1 … `last` below `folder` and return their paths."""
    paths = []
    for source in sorted((job_dir / EPOCHS).glob("epoch-*.png")):
        if int(source.stem.removeprefix("epoch-")) <= last:
            paths.append(folder / EPOCHS / source.name)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, paths[-1])
    return paths


def draw_grid(samples: Array, path: Path) -> Path:
    """Write a grid of samples as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(samples).save(path)
    return path


def grid(samples: Array) -> Image:
    """Return uint8 samples [n, h, w, c] in rows of COLUMNS on white, enlarged without smoothing."""
    rows = [list(samples[start : start + COLUMNS]) for start in range(0, len(samples), COLUMNS)]
    return image_grid.grid(rows, COLUMNS, max(1, SIDE // max(samples.shape[1:3])), GAP)
