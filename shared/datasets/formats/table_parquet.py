"""Parquet tables: their columns without what only one library understands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.errors import RequestError
from shared.datasets.errors import bad_file, broken_file
from shared.datasets.ingest.build import Limits
from shared.datasets.ingest.build_table import Rows, check_columns
from shared.datasets.ingest.source_files import Files

#: Rows read first, and bytes of rows that are read at a time. A short file can hold very long values.
_FIRST_ROWS, _MAX_ROWS, _READ_BYTES = 1_000, 50_000, 32_000_000
_COPY_BYTES = 1_000_000


@contextmanager
def opened(files: Files, name: str, folder: Path, limits: Limits) -> Iterator[Rows]:
    """Read a Parquet file. Raises InvalidRequest, MalformedRequest."""
    path = folder / "source.parquet"
    limits.check(files.size(name), folder)
    with files.open(name) as stream, path.open("wb") as file:  # a member of a zip cannot be read at any offset
        shutil.copyfileobj(stream, file, _COPY_BYTES)
    try:
        with pq.ParquetFile(path) as found:
            limits.check(found.metadata.num_rows * found.metadata.num_columns, folder)  # a byte per value at least
            schema = _schema(found.schema_arrow, name)
            yield Rows(schema, _batches(found, schema))
    except pa.ArrowNotImplementedError as error:
        raise bad_file(name, f"has values that cannot be stored ({_first_line(error)})") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, RequestError) or getattr(error, "errno", None):
            raise  # a full disk
        raise broken_file(name, f"is cut off or no Parquet file ({_first_line(error)})") from error


def _schema(given: pa.Schema, name: str) -> pa.Schema:
    check_columns(given.names, name)
    return pa.schema([(field.name, _type(field.type)) for field in given])


def _type(type: pa.DataType) -> pa.DataType:
    """Return the type that equal values have, however they are packed."""
    if pa.types.is_dictionary(type):
        return _type(type.value_type)
    if pa.types.is_large_string(type) or pa.types.is_null(type):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(type) else type


def _batches(found: pq.ParquetFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    wanted = _FIRST_ROWS
    for group in range(found.num_row_groups):
        for batch in found.iter_batches(wanted, row_groups=[group], use_threads=False):
            batch.validate(full=True)  # text that is not UTF-8
            yield pa.record_batch([values.cast(type) for values, type in zip(batch, schema.types, strict=True)], schema)
            wanted = max(1, min(_MAX_ROWS, _READ_BYTES * max(len(batch), 1) // max(batch.nbytes, 1)))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
