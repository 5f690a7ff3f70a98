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

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("row", pa.int64()),
        ("label", pa.string()),
        ("label_index", pa.int32()),
        ("probability", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)


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
    schema = _SCHEMA

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
        finite = np.isfinite(probabilities).all(axis=1)
        ids, numbers = self.row_index.ids(split, first, last), np.arange(first, last, dtype=np.int64)
        bad = [
            BadRow(ids[int(i)].as_py(), first + int(i), "the model's output is not a number")
            for i in np.flatnonzero(~finite)
        ]
        best = probabilities.argmax(axis=1)
        flat = pa.array(probabilities.reshape(-1))
        offsets = np.arange(0, probabilities.size + 1, probabilities.shape[1], dtype=np.int32)
        columns = [
            ids,
            self.row_index.split_column(split, last - first),
            pa.array(numbers),
            pa.array(self.classes, pa.string()).take(pa.array(best)),
            pa.array(best.astype(np.int32)),
            pa.array(probabilities[np.arange(len(best)), best]),
            pa.ListArray.from_arrays(pa.array(offsets), flat),
        ]
        table = pa.Table.from_arrays(columns, schema=self.schema)
        return (table if finite.all() else table.filter(pa.array(finite))), bad
