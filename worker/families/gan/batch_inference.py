"""Batch inference with a GAN: numbered samples, each of which depends only on the seed and its number."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.families.learner import Array
from shared.image_grid import picture
from shared.specs.jobs import Inference
from worker.families.gan.evaluation import BATCH_SIZE, GRID, GanLearner
from worker.kinds.prediction_files import BadRow, Source


def open_source(learner: GanLearner, parent: Any, inference: Inference, dataset_dir: Path | None) -> Samples:
    """Return the samples to generate."""
    return Samples(learner, inference)


@dataclass
class Samples(Source):
    """Samples as PNG files in the column `png` (base64 in JSONL)."""

    learner: GanLearner
    inference: Inference
    schema = pa.schema([("id", pa.string()), ("row", pa.int64()), ("seed", pa.int64()), ("png", pa.binary())])

    def __post_init__(self) -> None:
        self.total = self.inference.count

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        count, seed = stop - start, self.inference.seed
        samples = self.learner.generate(count, seed, self.inference.batch_rows, start)
        columns = [
            pa.array([str(number) for number in range(start, stop)]),
            pa.array(np.arange(start, stop, dtype=np.int64)),
            pa.array(np.full(count, seed, np.int64)),
            pa.array([_png(sample) for sample in samples], pa.binary()),
        ]
        return pa.Table.from_arrays(columns, schema=self.schema), []

    def shown(self) -> Mapping[str, Array]:
        """Return the first samples, which `samples.png` shows."""
        return {"samples": self.learner.generate(min(self.total, GRID), self.inference.seed, BATCH_SIZE)}


def _png(sample: Array) -> bytes:
    file = io.BytesIO()
    picture(sample).save(file, "PNG")
    return file.getvalue()
