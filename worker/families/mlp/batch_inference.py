"""Batch inference with a perceptron: predicts every row of a table, which needs no target."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.families.learner import Array, Learner
from shared.errors import BadData
from shared.specs.jobs import Inference
from worker.families.mlp import columns
from worker.families.mlp.encoding import Encoding
from worker.families.mlp.fitting import encoded
from worker.kinds.prediction_files import BadRow, StagedSource

_ROW = [("id", pa.string()), ("row", pa.int64())]
CLASSES = pa.schema(
    [*_ROW, ("prediction", pa.string()), ("probability", pa.float32()), ("probabilities", pa.list_(pa.float32()))]
)
NUMBERS = pa.schema([*_ROW, ("prediction", pa.float64())])


def open_source(learner: Learner, parent: Any, inference: Inference, dataset_dir: Path | None) -> Predictions:
    """Return the rows to predict. Raises BadData if the table lacks a column that the model reads."""
    if dataset_dir is None:
        raise BadData("predict needs a data set")
    path, encoding = columns.table_file(dataset_dir), Encoding.of(parent.facts)
    types = columns.types_of(path)
    if missing := [column.name for column in encoding.columns if column.name not in types]:
        raise BadData(columns.missing_columns(missing))
    is_classes = parent.facts["preprocessing"]["task"] == "classes"
    classes = list(parent.facts["classes"]) if is_classes else None
    return Predictions(learner, encoding, classes, path, inference.batch_rows)


@dataclass
class Predictions(StagedSource):
    """Predictions of a table as Arrow tables; one row group of it is in memory at a time."""

    learner: Learner
    encoding: Encoding
    #: None: the model predicts numbers.
    classes: list[str] | None
    path: Path
    batch_size: int
    _group: tuple[int, pa.Table | None] = field(default=(-1, None), init=False)

    def __post_init__(self) -> None:
        self.schema = NUMBERS if self.classes is None else CLASSES
        with pq.ParquetFile(self.path) as file:
            counts = [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)]
        self._ends = np.cumsum(counts)
        self.total = int(self._ends[-1]) if counts else 0

    def read(self, start: int, stop: int) -> tuple[int, Array]:
        every = np.arange(stop - start, dtype=np.int64)
        return start, encoded(self._read(start, stop), self.encoding, {"all": every}, start)["all"]

    def predict(self, read: tuple[int, Array]) -> Array:
        return self.learner.predict(read[1], self.batch_size)

    def table(self, read: tuple[int, Array], found: Array) -> tuple[pa.Table, list[BadRow]]:
        start, stop = read[0], read[0] + len(found)
        numbers = np.arange(start, stop, dtype=np.int64)
        ids = pc.binary_join_element_wise("rows", pa.array(numbers).cast(pa.string()), "/")
        finite = np.isfinite(found) if self.classes is None else np.isfinite(found).all(axis=1)
        bad = [
            BadRow(ids[int(place)].as_py(), int(numbers[place]), "the model's output is not a number")
            for place in np.flatnonzero(~finite)
        ]
        made = pa.Table.from_arrays([ids, pa.array(numbers), *self._predicted(found)], schema=self.schema)
        return (made if finite.all() else made.filter(pa.array(finite))), bad

    def _predicted(self, found: Array) -> list[pa.Array]:
        if self.classes is None:
            return [pa.array(found.astype(np.float64))]
        best = found.argmax(axis=1)
        offsets = pa.array(np.arange(0, found.size + 1, found.shape[1], dtype=np.int32))
        return [
            pa.array(self.classes, pa.string()).take(pa.array(best)),
            pa.array(found[np.arange(len(best)), best]),
            pa.ListArray.from_arrays(offsets, pa.array(found.reshape(-1))),
        ]

    def _read(self, start: int, stop: int) -> pa.Table:
        """Return rows `start` … `stop - 1` with the columns that the model reads."""
        first, last = (int(np.searchsorted(self._ends, row, side="right")) for row in (start, max(start, stop - 1)))
        before = int(self._ends[first - 1]) if first else 0
        groups = pa.concat_tables([self._read_group(place) for place in range(first, last + 1)])
        return groups.slice(start - before, stop - start)

    def _read_group(self, place: int) -> pa.Table:
        if self._group[0] != place:
            names = [column.name for column in self.encoding.columns]
            with pq.ParquetFile(self.path) as file:
                self._group = (place, file.read_row_group(place, columns=names, use_threads=False))
        found: pa.Table = self._group[1]
        return found
