"""A look at a table: facts about each column, what should be cleaned, and the first rows; no NaN, no Infinity."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.datasets import table_cleaning
from shared.datasets.errors import printable
from shared.datasets.near_numbers import NearNumbers
from shared.datasets.store import TABLE_FILE, LineOf, no_line

#: Columns that are described, rows that are shown, and the most frequent values of a column that are listed.
COLUMNS, ROWS, TOP = 200, 10, 5
#: Different values that are counted.
DISTINCT = 10_000
#: Characters of a text that are told apart, and shown.
_TEXT, _SHOWN = 200, 100
#: Largest whole number that JavaScript reads exactly.
_EXACT = 2**53
_READ_ROWS = 20_000


def look(folder: Path, line_of: LineOf = no_line) -> dict[str, Any]:
    """Return {columns, column_count, rows, report} of a version. `line_of` knows the lines of the user's file."""
    with pq.ParquetFile(folder / TABLE_FILE) as file:
        schema = file.schema_arrow
        fields = list(schema)[:COLUMNS]
        numeric = [place for place, field in enumerate(fields) if _is_number(field.type)]
        columns = [_Column(field, file.metadata.num_rows, len(numeric)) for field in fields]
        rows: list[list[Any]] = []
        for batch in _batches(file, schema.names[:COLUMNS]):
            plain = [_plain(values) for values in batch.columns]
            rows += _rows(plain, ROWS - len(rows))
            for column, values, original in zip(columns, plain, batch.columns, strict=True):
                column.add(values, original)
        for batch in _batches(file, [fields[place].name for place in numeric]):
            for place, values in zip(numeric, batch.columns, strict=True):
                columns[place].count_outliers(values)
        twice = table_cleaning.duplicates(batch.columns for batch in _batches(file, schema.names))
    facts = [column.facts(line_of) for column in columns]
    return {"columns": facts, "column_count": len(schema), "rows": rows, "report": _report(facts, twice)}


def _report(columns: Sequence[Mapping[str, Any]], twice: Mapping[str, int] | None) -> dict[str, Any]:
    """Return what should be cleaned of the described columns, and the duplicates of all."""

    def names(matches: Callable[[Mapping[str, Any]], bool]) -> list[str]:
        return [column["name"] for column in columns if matches(column)]

    return {
        "missing": sum(column["nulls"] for column in columns),
        "with_missing": names(lambda column: column["nulls"] > 0),
        "duplicates": twice,
        "empty": names(lambda column: column["distinct"] == 0),
        "constant": names(lambda column: column["distinct"] == 1 and not column["nulls"]),
        "outliers": sum((column["outliers"] or {}).get("count", 0) for column in columns),
        "with_outliers": names(lambda column: bool((column["outliers"] or {}).get("count"))),
        "not_numbers": names(lambda column: column["not_numbers"] is not None),
    }


def first_rows(folder: Path) -> bytes:
    """Return the names of the columns and the first rows, as CSV."""
    text = StringIO()
    with pq.ParquetFile(folder / TABLE_FILE) as file:
        names = file.schema_arrow.names[:COLUMNS]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(_rows([_plain(values) for values in next(_batches(file, names)).columns], ROWS))
    return text.getvalue().encode()


def _batches(file: pq.ParquetFile, names: list[str]) -> Iterator[pa.RecordBatch]:
    for group in range(file.num_row_groups):
        read = file.iter_batches(_READ_ROWS, row_groups=[group], columns=names, use_threads=False)
        yield from (batch.select(names) for batch in read)


class _Column:
    """Collects the facts of one column."""

    def __init__(self, field: pa.Field, rows: int, numeric: int) -> None:
        """`rows`: of the table; `numeric`: its columns of numbers."""
        self._name, self._type = field.name, field.type
        self._outliers = table_cleaning.Outliers(rows, numeric) if _is_number(field.type) else None
        self._near = NearNumbers() if pa.types.is_string(field.type) else None
        self._nulls = 0
        self._counts: Counter[Any] = Counter()
        self._distinct: set[Any] = set()
        self._plain = True
        self._mean, self._count = 0.0, 0
        self._least: Any = None
        self._most: Any = None

    def add(self, values: pa.Array | None, original: pa.Array) -> None:
        """Count some rows. `values`: in a plain type; None if there is none."""
        if self._outliers is not None:
            self._outliers.sample(original)
        if self._near is not None:
            self._near.add(original)
        if values is None:
            self._plain, self._nulls = False, self._nulls + original.null_count
            return
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        self._nulls += values.null_count
        values = values.drop_null()
        if len(values):
            self._tally(values)
            if not pa.types.is_boolean(values.type):
                self._stretch(values)

    def _tally(self, values: pa.Array) -> None:
        counted = pc.value_counts(values)
        if len(counted) > DISTINCT:
            counted = counted.take(pc.sort_indices(counted.field(1), sort_keys=[("", "descending")])[:DISTINCT])
        for value, count in zip(*(counted.field(place).to_pylist() for place in (0, 1)), strict=True):
            if value in self._distinct or len(self._distinct) <= DISTINCT:
                self._distinct.add(value)
                self._counts[value] += count

    def _stretch(self, values: pa.Array) -> None:
        if pa.types.is_floating(values.type):
            values = values.filter(pc.is_finite(values))
        if not len(values):
            return
        ends = pc.min_max(values).as_py()
        self._least = ends["min"] if self._least is None else min(self._least, ends["min"])
        self._most = ends["max"] if self._most is None else max(self._most, ends["max"])
        if not pa.types.is_string(values.type):
            self._count += len(values)
            self._mean += (pc.mean(values).as_py() - self._mean) * (len(values) / self._count)

    def count_outliers(self, values: pa.Array) -> None:
        """Count the outliers of some rows, after `add` of all."""
        assert self._outliers is not None, "only of columns of numbers"
        self._outliers.count(values)

    def facts(self, line_of: LineOf) -> dict[str, Any]:
        """Return the column's entry."""
        is_number = _is_number(self._type)
        has_ends = is_number or pa.types.is_temporal(self._type)
        capped = len(self._distinct) > DISTINCT
        return {
            "name": self._name,
            "type": _short(str(self._type)),
            "nulls": self._nulls,
            "distinct": min(len(self._distinct), DISTINCT) if self._plain else None,
            "distinct_is_capped": capped,
            "min": _json(self._least) if has_ends else None,
            "max": _json(self._most) if has_ends else None,
            "mean": _json(self._mean) if is_number and self._count else None,
            "top": None if has_ends or not self._plain else self._top(),
            "outliers": self._outliers.facts() if self._outliers is not None else None,
            "not_numbers": self._not_numbers(line_of),
        }

    def _not_numbers(self, line_of: LineOf) -> dict[str, Any] | None:
        """Return the values that keep a column of text from being numbers, with the first; rows count from 1."""
        found = self._near.found() if self._near is not None else None
        if found is None:
            return None
        first = {"value": _json(found.value), "row": found.row + 1, "line": line_of(found.row)}
        return {"count": found.count, "of": found.of, **first}

    def _top(self) -> list[dict[str, Any]]:
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], str(item[0])))
        return [{"value": _json(value), "count": count} for value, count in ordered[:TOP]]


def _is_number(type: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_decimal(type))


def _plain(values: pa.Array) -> pa.Array | None:
    """Return the values as true and false, whole numbers, float64 or text; None for other types."""
    type = values.type
    try:
        if pa.types.is_boolean(type) or pa.types.is_integer(type):
            return values
        if _is_number(type):
            return values.cast(pa.float64(), safe=False)
        if pa.types.is_string(type):
            return pc.utf8_slice_codeunits(values, 0, _TEXT)
        if pa.types.is_timestamp(type):
            values = values.cast(pa.timestamp(type.unit))  # in UTC: the name of a time zone may be unknown here
        if pa.types.is_duration(type):
            return values.cast(pa.int64())
        return _moments(values) if pa.types.is_temporal(type) else None
    except pa.ArrowException:
        return None


def _moments(values: pa.Array) -> pa.Array:
    """Return dates and times as text, without zeros after the second."""
    return pc.replace_substring_regex(values.cast(pa.string()), r"\.0+$", "")


def _rows(plain: list[pa.Array | None], count: int) -> list[list[Any]]:
    length = next((len(values) for values in plain if values is not None), 0)
    columns = [["…"] * length if values is None else values.slice(0, count).to_pylist() for values in plain]
    return [[_json(value) for value in row] for row in zip(*(column[:count] for column in columns), strict=True)]


def _json(value: Any) -> Any:
    """Return a value for JSON: None for NaN and Infinity, texts in short."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < _EXACT else str(value)
    return value if value is None else _short(str(value))


def _short(text: str) -> str:
    return printable(text) if len(text) <= _SHOWN else printable(text[:_SHOWN]) + "…"
