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
from worker.kinds.prediction_files import BadRow, StagedSource
from worker.training.classification.predictions import SCHEMA, table


def open_source(learner: Learner, parent: Any, inference: Inference, dataset_dir: Path | None) -> Predictions:
    """Return the rows to predict. Raises BadData if the data set holds no images."""
    if dataset_dir is None:
        raise BadData("predict needs a data set")
    stored = open_dataset(dataset_dir)
    if stored.kind != "image":
        raise BadData(f"a classifier of images needs a data set of images, this one holds {stored.kind}")
    return Predictions(learner, parent.model, list(parent.facts["classes"]), stored, inference.batch_rows)


@dataclass(frozen=True)
class _Piece:
    """Rows `first` … `last - 1` of a split."""

    split: str
    first: int
    last: int
    pictures: Array


@dataclass
class Predictions(StagedSource):
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

    def read(self, start: int, stop: int) -> list[_Piece]:
        return [_Piece(*piece, self._pictures(*piece)) for piece in self.row_index.pieces(start, stop)]

    def predict(self, read: list[_Piece]) -> list[Array]:
        return [self.learner.predict(piece.pictures, self.batch_size) for piece in read]

    def table(self, read: list[_Piece], found: list[Array]) -> tuple[pa.Table, list[BadRow]]:
        tables = [self._table(piece, one) for piece, one in zip(read, found, strict=True)]
        return pa.concat_tables([self.schema.empty_table(), *(t for t, _ in tables)]), [
            b for _, bad in tables for b in bad
        ]

    def _pictures(self, split: str, first: int, last: int) -> Array:
        image = (*self.model.image_size, self.model.image_channels)
        stored = self.stored.x(split)[first:last]
        return np.array(stored, order="C") if self.stored.image == image else fit(stored, image)

    def _table(self, piece: _Piece, probabilities: Array) -> tuple[pa.Table, list[BadRow]]:
        split, first, last = piece.split, piece.first, piece.last
        ids, splits = self.row_index.ids(split, first, last), self.row_index.split_column(split, last - first)
        return table(ids, splits, np.arange(first, last, dtype=np.int64), self.classes, probabilities)
