"""The pictures of a GAN: the same samples after each epoch, at the end, and the learning curves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from worker.training.learner import Array, Evaluation
from worker.training.plots import History, draw_curves

#: Pixels of a sample's longer side in a grid (whole multiples of the picture's own), and of the gap between two.
SIDE, GAP = 84, 4
#: Columns of a grid.
COLUMNS = 8
#: In the job's folder, where the grids of every attempt come together.
EPOCHS = "samples"


def draw(report: Evaluation, history: History, folder: Path, best_step: int | None = None) -> list[Path]:
    """Write the figures into `folder` and return their paths."""
    curves = [draw_curves(history, folder / "curves.png", best_step)] if history else []
    return [*curves, draw_grid(report.arrays["samples"], folder / "samples.png")]


def draw_epoch(samples: Array, job_dir: Path, epoch: int) -> None:
    """Kept in the job's folder, not the attempt's: a resumed job has the grids of all its epochs. Written aside and
    renamed: an attempt that lost its lease draws the same picture."""
    target = job_dir / EPOCHS / f"epoch-{epoch:03}.png"
    aside = target.with_suffix(f".{os.getpid()}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    grid(samples).save(aside, format="PNG", optimize=True)
    aside.replace(target)


def collect_epochs(job_dir: Path, folder: Path, last: int) -> list[Path]:
    """Copy the grids of epochs 1 … `last` below `folder`, and return their paths."""
    paths = []
    for source in sorted((job_dir / EPOCHS).glob("epoch-*.png")):
        if int(source.stem.removeprefix("epoch-")) <= last:
            paths.append(folder / EPOCHS / source.name)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, paths[-1])
    return paths


def draw_grid(samples: Array, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(samples).save(path, optimize=True)
    return path


def grid(samples: Array) -> Image.Image:
    """uint8 [n, h, w, c] in rows of COLUMNS on white, enlarged without smoothing."""
    n, height, width, channels = samples.shape
    times = max(1, SIDE // max(height, width))
    rows = -(-n // COLUMNS)
    cell = np.array([height * times + GAP, width * times + GAP])
    sheet = np.full((*(cell * [rows, COLUMNS] + GAP), channels), 255, np.uint8)
    for i, sample in enumerate(samples):
        top, left = GAP + cell * divmod(i, COLUMNS)
        large = sample.repeat(times, axis=0).repeat(times, axis=1)
        sheet[top : top + height * times, left : left + width * times] = large
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
