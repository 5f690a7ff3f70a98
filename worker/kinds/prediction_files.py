"""Output files of batch inference: parts of rows, joined to one Parquet or JSONL file without device and model."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from nightshift.families.learner import Array
from shared.failpoints import failpoint

#: Files of a part: the rows with a prediction and those without one.
ROWS, ERRORS = "rows", "errors.jsonl"
#: Bytes from which rows become a row group in Parquet. Too low: more bytes, slower to write and to read. Too high: they
#: are in memory while they are written.
_GROUP_BYTES = 8 << 20


@dataclass(frozen=True)
class BadRow:
    """A row of the input without a prediction, and the reason."""

    id: str
    row: int
    reason: str


class Source(Protocol):
    """Predictions of a family for the rows of a job."""

    total: int
    schema: pa.Schema

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        """Return the predictions for rows `start` … `stop - 1` in order, and the rows without one."""
        ...

    def shown(self) -> Mapping[str, Array]:
        """Compute the arrays of which the family's `draw` makes figures; none: there are no figures."""
        return {}


class StagedSource(Source):
    """A source whose rows are read, predicted and made a table in three steps, each in a thread of its own."""

    def read(self, start: int, stop: int) -> Any:
        """Return what the files hold of rows `start` … `stop - 1`; called for the chunks in their order.

        It depends on no batch: a source that was opened for another one may predict it.
        """
        raise NotImplementedError

    def predict(self, read: Any) -> Any:
        """Return the learner's outputs for rows that were read."""
        raise NotImplementedError

    def table(self, read: Any, found: Any) -> tuple[pa.Table, list[BadRow]]:
        """Return the predictions and the rows without one, as `rows` does."""
        raise NotImplementedError

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        read = self.read(start, stop)
        return self.table(read, self.predict(read))


def encode(table: pa.Table, output: str) -> bytes:
    """Encode a part: lines for JSONL, an Arrow stream for Parquet, which is written once from all parts."""
    if output == "jsonl":
        return b"".join(line for line in _lines(table))
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def encode_errors(bad: Sequence[BadRow]) -> bytes:
    """Encode rows without predictions as JSONL."""
    return b"".join(_line({"id": row.id, "row": row.row, "reason": row.reason}) for row in bad)


def _lines(table: pa.Table) -> Iterator[bytes]:
    binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    for row in table.to_pylist():
        for name in binary:
            row[name] = base64.b64encode(row[name]).decode()
        yield _line(row)


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def join(parts: Sequence[Path], output: str, root: Path, schema: pa.Schema | None = None) -> list[Path]:
    """Write the predictions of all parts, and their rows without one if there are any; return the files.

    `parts` are folders, in the order of their rows. `schema` is that of the rows; None: that of the first part.
    """
    paths = [_join_rows([part / ROWS for part in parts], output, root / f"predictions.{output}", schema)]
    if any((part / ERRORS).stat().st_size for part in parts):
        paths.append(_concatenate([part / ERRORS for part in parts], root / ERRORS))
    return paths


def _join_rows(parts: Sequence[Path], output: str, path: Path, schema: pa.Schema | None) -> Path:
    """Join rows with one row group, or one part, of them in memory at a time."""
    if output == "jsonl":
        return _concatenate(parts, path)
    with pq.ParquetWriter(path, schema or _schema(parts[0]), compression="zstd") as writer:
        for group in _groups(parts):
            writer.write_table(group, row_group_size=len(group))
    return path


def _groups(parts: Sequence[Path]) -> Iterator[pa.Table]:
    """Yield the rows of some parts at a time."""
    group, size = list[pa.Table](), 0
    for part in parts:
        failpoint("part.joining")
        table = _rows_of(part)
        group, size = [*group, table], size + table.nbytes
        if size >= _GROUP_BYTES:
            yield pa.concat_tables(group)
            group, size = [], 0
    if group:
        yield pa.concat_tables(group)


def _rows_of(part: Path) -> pa.Table:
    with pa.memory_map(str(part)) as source, pyarrow.ipc.open_stream(source) as stream:
        return stream.read_all()


def _schema(rows: Path) -> pa.Schema:
    with pa.memory_map(str(rows)) as source, pyarrow.ipc.open_stream(source) as stream:
        return stream.schema


def _concatenate(parts: Sequence[Path], path: Path) -> Path:
    with path.open("wb") as whole:
        for part in parts:
            failpoint("part.joining")
            with part.open("rb") as source:
                shutil.copyfileobj(source, whole)
    return path
