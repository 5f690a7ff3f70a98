"""What batch inference writes: rows as Parquet or JSONL, a part at a time, and the parts joined into one file."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq


@dataclass(frozen=True)
class BadRow:
    """A row of the input that has no prediction, and why."""

    id: str
    row: int
    reason: str


class Source(Protocol):
    """The rows of a job, as a family makes them."""

    total: int
    schema: pa.Schema

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        """Predictions for rows `start` … `stop - 1` in their order, and those of them that have none."""
        ...

    def figures(self, root: Path) -> list[Path]:
        """Pictures of the result, written below `root`."""
        ...


def encode(table: pa.Table, output: str) -> bytes:
    """A part: lines for JSONL, for Parquet an Arrow stream (its Parquet form is made once, when all parts are
    there)."""
    if output == "jsonl":
        return b"".join(line for line in _lines(table))
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def encode_errors(bad: Sequence[BadRow]) -> bytes:
    return b"".join(_line({"id": row.id, "row": row.row, "reason": row.reason}) for row in bad)


def _lines(table: pa.Table) -> Iterator[bytes]:
    binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    for row in table.to_pylist():
        for name in binary:
            row[name] = base64.b64encode(row[name]).decode()
        yield _line(row)


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def join(parts: Sequence[Path], schema: pa.Schema, output: str, path: Path) -> Path:
    """One file of all parts, holding one part in memory; each is a row group in Parquet."""
    if output == "jsonl":
        return concatenate(parts, path)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            with pa.memory_map(str(part)) as source, pyarrow.ipc.open_stream(source) as stream:
                writer.write_table(stream.read_all())
    return path


def concatenate(parts: Sequence[Path], path: Path) -> Path:
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, whole)
    return path
