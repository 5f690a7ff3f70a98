"""CSV tables: a header row; comma, semicolon or tab between fields; UTF-8.

All values are first written to disk as text, so that each column's type follows from all of its values.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.ipc

from shared.datasets.errors import bad_file
from shared.datasets.formats.column_types import ColumnType, converted
from shared.datasets.formats.utf8 import decode_line
from shared.datasets.ingest.build import Limits
from shared.datasets.ingest.build_table import MAX_COLUMNS, Rows, check_columns
from shared.datasets.ingest.source_files import Files, open_unpacked

#: Longest row (bytes). Too low: rows with long texts are refused. Too high: a field whose quote is never closed takes
#: as much memory.
MAX_ROW = 10_000_000
#: Values and bytes that are kept as text before they are written.
_PART_VALUES, _PART_BYTES = 200_000, 16_000_000
#: Most jumps in the numbers of lines that are noted: after rows of several lines, and empty lines.
_MAX_SKIPS = 100_000
_DELIMITERS = ",;\t"


@contextmanager
def opened(files: Files, name: str, folder: Path, limits: Limits) -> Iterator[Rows]:
    """Read a CSV. Raises InvalidRequest, with the line."""
    spool = folder / "values.arrow"
    with open_unpacked(files, name) as stream:
        reader = _Reader(stream, name)
        types, empty = [ColumnType() for _ in reader.columns], True
        text = pa.schema([(column, pa.string()) for column in reader.columns])
        with pyarrow.ipc.new_stream(spool, text) as writer:
            for rows in reader.parts():
                arrays = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]
                for type, values in zip(types, arrays, strict=True):
                    type.look(values)
                writer.write_batch(pa.record_batch(arrays, schema=text))
                limits.check(spool.stat().st_size, folder)
                empty = False
    if empty:
        raise bad_file(name, "has no rows below its header", 1)
    schema = pa.schema([(column, type.chosen) for column, type in zip(reader.columns, types, strict=True)])
    with pa.memory_map(str(spool)) as source, pyarrow.ipc.open_stream(source) as spooled:
        yield Rows(schema, (_converted(batch, schema) for batch in spooled), reader.line_of)


def _converted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [converted(values, type) for values, type in zip(batch.columns, schema.types, strict=True)]
    return pa.record_batch(columns, schema=schema)


class _Reader:
    """The rows of a CSV; errors name the line where a row begins."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """Read the header. Raises InvalidRequest."""
        self._name, self._stream, self._line, self._row_bytes, self._bytes = name, stream, 0, 0, 0
        self._row = -1
        #: From each of these rows on, the line of a row less its number; a row may take several lines.
        self._skips: list[tuple[int, int]] = [(0, 2)]
        csv.field_size_limit(MAX_ROW)
        lines = self._lines()
        first = next(lines, "")
        self._reader = csv.reader(chain([first], lines), delimiter=_delimiter(first), strict=True)
        self.columns = self._header()

    def _header(self) -> list[str]:
        try:
            row = [column.strip() for column in next(self._reader, [])]
        except csv.Error as error:
            raise bad_file(self._name, f"is not valid CSV: {error}", 1) from error
        if not any(row):
            raise bad_file(self._name, "is empty; the first line names the columns", 1)
        columns = [column or f"column_{place}" for place, column in enumerate(row[: MAX_COLUMNS + 1], 1)]
        check_columns(columns, self._name, 1)
        return columns

    def parts(self) -> Iterator[list[Sequence[str]]]:
        """Yield rows, some megabytes at a time. Raises InvalidRequest."""
        rows: list[Sequence[str]] = []
        wanted = max(1, _PART_VALUES // len(self.columns))
        for row in self._rows():
            rows.append(row)
            if len(rows) == wanted or self._bytes > _PART_BYTES:
                yield rows
                rows, self._bytes = [], 0
        if rows:
            yield rows

    def _rows(self) -> Iterator[list[str]]:
        line = self._line + 1
        try:
            for row in self._reader:
                self._row_bytes = 0
                if row and len(row) != len(self.columns):
                    raise bad_file(self._name, self._wrong_count(row), line)
                if row:
                    self._remember(line)
                    yield row
                line = self._line + 1
        except csv.Error as error:
            raise bad_file(self._name, f"is not valid CSV: {error}", line) from error

    def _remember(self, line: int) -> None:
        """Note the line of the next row, unless it follows from that of the row before."""
        self._row += 1
        if line - self._row != self._skips[-1][1] and len(self._skips) <= _MAX_SKIPS:
            self._skips.append((self._row, line - self._row))

    def line_of(self, row: int) -> int | None:
        """Return the line on which a row begins; None after more jumps than are noted."""
        if len(self._skips) > _MAX_SKIPS and row >= self._skips[-1][0]:
            return None
        return row + self._skips[bisect_right(self._skips, row, key=lambda skip: skip[0]) - 1][1]

    def _wrong_count(self, row: list[str]) -> str:
        fields = f"{len(row)} field{'s' if len(row) > 1 else ''}"
        return f"has {fields}, but the first line names {len(self.columns)} columns (quote a text with separators)"

    def _lines(self) -> Iterator[str]:
        while raw := self._stream.readline(MAX_ROW + 1):
            self._line += 1
            self._row_bytes += len(raw)
            self._bytes += len(raw)
            if self._row_bytes > MAX_ROW:
                raise bad_file(
                    self._name, f"has a row of more than {MAX_ROW:,} bytes; is a quote not closed?", self._line
                )
            yield decode_line(raw, self._name, self._line)


def _delimiter(header: str) -> str:
    """Return the separator that gives the header the most fields."""
    return max(_DELIMITERS, key=lambda one: len(next(csv.reader([header], delimiter=one), [])))
