"""Batch inference with a classifier: predicts every image of a data set, its training part first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.families.learner import Array, Learner
from shared.datasets.store import OpenDataset, open_dataset
from shared.errors import BadData
from shared.specs.jobs import Inference
from worker.families.cnn.data import fit
from worker.kinds.dataset_rows import RowIndex
from worker.kinds.prediction_files import BadRow, Source
from worker.training.classification.predictions import SCHEMA, table


def open_source(learner: Learner, parent: Any, inference: Inference, dataset_dir: Path | None) -> Predictions:
    """Return the rows to predict. Raises BadData if the data set holds no images."""
    if dataset_dir is None:
        raise BadData("predict needs a data set")
    stored = open_dataset(dataset_dir)
    if stored.kind != "image":
        raise BadData(f"a classifier of images needs a data set of images, this one holds {stored.kind}")
    return Predictions(learner, parent.model, list(parent.facts["classes"]), stored, inference.batch_size)


@dataclass
class Predictions(Source):
    """Predictions of a data set as Arrow tables whose columns are built from arrays."""

    learner: Learner
    model: Any
    classes: list[str]
    stored: OpenDataset
    batch_size: int
    schema = SCHEMA

    def __post_init__(self) -> None:
        self.row_index = RowIndex(self.stored)
        self.total = self.row_index.total

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        image = (*self.model.image_size, self.model.image_channels)
        pieces = [
            (split, first, last, self._probabilities(split, first, last, image))
            for split, first, last in self.row_index.pieces(start, stop)
        ]
        tables = [self._table(*piece) for piece in pieces]
        return pa.concat_tables([self.schema.empty_table(), *(t for t, _ in tables)]), [
            b for _, bad in tables for b in bad
        ]

    def _probabilities(self, split: str, first: int, last: int, image: tuple[int, int, int]) -> Array:
        stored = self.stored.x(split)[first:last]
        pictures = np.ascontiguousarray(stored) if self.stored.image == image else fit(stored, image)
        return self.learner.predict(pictures, self.batch_size)

    def _table(self, split: str, first: int, last: int, probabilities: Array) -> tuple[pa.Table, list[BadRow]]:
        ids, splits = self.row_index.ids(split, first, last), self.row_index.split_column(split, last - first)
        return table(ids, splits, np.arange(first, last, dtype=np.int64), self.classes, probabilities)
