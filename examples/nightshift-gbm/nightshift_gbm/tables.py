"""Rows of a table as numbers for trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Most different values of a column of text: one with more holds names or sentences, which trees cannot use.
MAX_CATEGORIES = 100
#: Most different whole numbers that are taken as classes.
MAX_CLASSES = 20

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Feature:
    """A column that the model reads. Text becomes the place in `categories`, or -1; a missing number the `median`."""

    name: str
    categories: list[str] | None = None
    median: float = 0.0

    def read(self, table: pa.Table) -> Numbers:
        """Return the column's values. Raises ValueError if the table does not have it."""
        if self.name not in table.column_names:
            raise ValueError(f"the table has no column {self.name!r}")
        if self.categories is not None:
            places = pc.index_in(table[self.name].cast(pa.string()), value_set=pa.array(self.categories, pa.string()))
            return np.asarray(pc.fill_null(places, -1).to_numpy(), np.float64)
        return _numbers(table[self.name], self.median)


def features(table: pa.Table, target: str) -> tuple[list[Feature], list[str]]:
    """Return what the model can read of the table, and the columns that it leaves out."""
    found = {name: _feature(name, table[name]) for name in table.column_names if name != target}
    return [one for one in found.values() if one], [name for name, one in found.items() if one is None]


def _feature(name: str, column: pa.ChunkedArray) -> Feature | None:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        values = sorted(value for value in pc.unique(column.cast(pa.string())).to_pylist() if value is not None)
        return Feature(name, values) if len(values) <= MAX_CATEGORIES else None
    if _is_number(kind):
        present = _numbers(column, np.nan)
        present = present[np.isfinite(present)]
        return Feature(name, median=float(np.median(present))) if len(present) else None
    return None


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
    )


def _numbers(column: pa.ChunkedArray, missing: float) -> Numbers:
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    elif pa.types.is_temporal(column.type):
        column = column.cast(pa.int64())
    values = np.array(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    values[~np.isfinite(values)] = missing
    return values


def matrix(table: pa.Table, columns: Sequence[Feature]) -> npt.NDArray[np.float32]:
    """Return the rows as numbers, [rows, columns]."""
    return np.stack([column.read(table) for column in columns], axis=1).astype(np.float32)


def classifies(task: str, column: pa.ChunkedArray) -> bool:
    """Return whether the values of the target are classes."""
    if task != "auto":
        return task == "classification"
    kind = column.type
    if pa.types.is_integer(kind):
        return len(pc.unique(column)) <= MAX_CLASSES
    return bool(pa.types.is_string(kind) or pa.types.is_boolean(kind))


def as_json(columns: Sequence[Feature]) -> list[dict[str, Any]]:
    """Return the columns for a JSON file."""
    return [asdict(column) for column in columns]


def from_json(columns: Sequence[Mapping[str, Any]]) -> list[Feature]:
    """Return the columns of a JSON file."""
    return [Feature(**column) for column in columns]
