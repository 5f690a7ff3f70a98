"""Columns of a stored table as arrays: numbers, or texts for categories and classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.families.learner import Array
from shared.datasets.near_numbers import Exceptions, exceptions
from shared.datasets.store import TABLE_FILE, open_dataset
from shared.errors import BadData
from worker.families.mlp.tasks import Content, content_of

_DAY_MICROSECONDS = 86_400_000_000


def table_file(dataset_dir: Path) -> Path:
    """Return the file of a stored table. Raises BadData for another kind of data."""
    stored = open_dataset(dataset_dir)
    if stored.kind != "table":
        raise BadData(f"a model of tables needs a table, this data set holds {stored.kind}")
    return stored.folder / TABLE_FILE


def types_of(path: Path) -> dict[str, str]:
    """Return the types of the columns by their names."""
    return {field.name: str(field.type) for field in pq.read_schema(path)}


def read(path: Path, names: Sequence[str]) -> pa.Table:
    """Read columns. Raises BadData that names those that the table lacks."""
    missing = [name for name in names if name not in set(pq.read_schema(path).names)]
    if missing:
        raise BadData(missing_columns(missing))
    return pq.read_table(path, columns=list(names), use_threads=False)


def missing_columns(names: Sequence[str]) -> str:
    """Return what is said of columns that a table lacks."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return f"the table has no column {', '.join(map(repr, names[:5]))}{more}, which the model needs"


def content(column: pa.ChunkedArray) -> Content:
    """Return what a column holds."""
    return content_of(str(column.type))


def numbers(name: str, column: pa.ChunkedArray, first_row: int = 0) -> Array:
    """Return the values as float64, NaN where missing or not finite; days are counted from 1970.

    A column of text is read if each of its values is a number. Raises BadData that names its first one that is not.
    """
    found = _numbers(name, column, first_row)
    return np.where(np.isfinite(found), found, np.nan)


def _numbers(name: str, column: pa.ChunkedArray, first_row: int) -> Array:
    match content(column):
        case "text":
            column = _parsed(name, column, first_row)
        case "truth":
            column = column.cast(pa.int8())
        case "day":
            micro = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
            return _float64(micro) / _DAY_MICROSECONDS
        case "other":
            raise BadData(f"column {name!r} holds {column.type}, which is no number")
    return _float64(column)


def _float64(column: pa.ChunkedArray) -> Array:
    found: Array = column.cast(pa.float64(), safe=False).to_numpy()
    return found.astype(np.float64)


def _parsed(name: str, column: pa.ChunkedArray, first_row: int) -> pa.ChunkedArray:
    from shared.datasets.formats.column_types import is_missing, is_number

    trimmed = pc.utf8_trim_whitespace(column)
    missing = pc.or_kleene(pc.is_null(trimmed), is_missing(trimmed))
    wrong = pc.invert(pc.or_kleene(missing, is_number(trimmed)))
    place = pc.index(wrong, True).as_py()
    if place >= 0:
        raise BadData(
            f"column {name!r} is text: row {first_row + place + 1:,} has {shown(column[place].as_py())}, and the model "
            "needs numbers there"
        )
    return pc.if_else(missing, None, trimmed).cast(pa.float64())


def shown(value: str) -> str:
    """Return a value of a table for a message."""
    return repr(value if len(value) <= 40 else value[:40] + "…")


def texts(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values as text, whole numbers without a point, missing ones null. Raises BadData for lists and such.

    A column of whole numbers with missing ones comes as fractions from some programs.
    """
    match content(column):
        case "text":
            return column.cast(pa.string())
        case "number":
            found = _float64(column)
            finite = np.isfinite(found)
            if (found[finite] % 1 == 0).all() and (np.abs(found[finite]) < 2**53).all():
                whole = np.where(finite, found, 0).astype(np.int64)
                return pa.chunked_array([pa.array(whole, mask=~finite)]).cast(pa.string())
            return pc.if_else(pa.array(finite), column.cast(pa.string()), None)
        case "other":
            raise BadData(f"column {name!r} holds {column.type}, which are no categories")
    return column.cast(pa.string())


def places(found: pa.ChunkedArray, values: Sequence[str]) -> Array:
    """Return the place in `values` of each text, -1 for others and missing ones: int64."""
    index = pc.fill_null(pc.index_in(found, value_set=pa.array(values, pa.string()), skip_nulls=True), -1)
    return np.asarray(index.to_numpy(), np.int64)


def not_numbers(column: pa.ChunkedArray) -> Exceptions | None:
    """Return the few values that keep a column of text from being numbers, if they do."""
    return exceptions(column) if content(column) == "text" else None
