"""Store a table as `table.parquet`, in bounded memory.

Row groups depend on the columns alone, so equal rows of equal types give equal bytes, whatever file they came in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.names import TABLE, DataKind
from shared.datasets.errors import bad_file, printable
from shared.datasets.ingest.build import NO_LIMITS, Limits
from shared.datasets.store import TABLE_FILE, LineOf, Stored, no_line, publish, staging

#: Most columns, and the longest name of one (characters).
MAX_COLUMNS, MAX_NAME = 10_000, 200
#: Values and rows of a row group.
_GROUP_VALUES, _MAX_GROUP_ROWS = 2_000_000, 100_000


@dataclass(frozen=True)
class Rows:
    """The columns of a table, and its rows in batches of any size."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    #: Returns the line of the file on which a row (from 0) begins; None where it is not known.
    line_of: LineOf = no_line


@dataclass(frozen=True)
class TableSource:
    """A table found by a reader. `open(folder, limits)` may use the folder for files until it is left."""

    name: str
    open: Callable[[Path, Limits], AbstractContextManager[Rows]]
    #: Estimated stored size before reading (bytes).
    size: int = 0
    kind: ClassVar[DataKind] = TABLE


def store_table(datasets_root: Path, source: TableSource, limits: Limits = NO_LIMITS) -> Stored:
    """Write a version. Errors of the source are passed on, and nothing is left on disk."""
    with staging(datasets_root) as scratch, staging(datasets_root) as folder:
        limits.check(source.size, folder)
        target = folder / TABLE_FILE
        with source.open(scratch, limits) as rows, pq.ParquetWriter(target, rows.schema) as writer:
            count = 0
            for group in _groups(rows):
                writer.write_table(group, row_group_size=len(group))
                count += len(group)
                limits.check(target.stat().st_size, folder)
        if not count:
            raise bad_file(source.name, "has no rows")
        target.chmod(0o444)
        meta: dict[str, Any] = {"kind": TABLE, "classes": [], "split": None, "splits": {"rows": {"count": count}}}
        return replace(publish(folder, meta), line_of=rows.line_of)


def check_columns(names: list[str], name: str, line: int | None = None) -> None:
    """Raise InvalidRequest for names of columns that a table cannot have."""
    if not names:
        raise bad_file(name, "has no columns", line)
    if len(names) > MAX_COLUMNS:
        raise bad_file(name, f"has {len(names):,} columns; at most {MAX_COLUMNS:,} are allowed", line)
    seen: set[str] = set()
    for column in names:
        if not column or len(column) > MAX_NAME or not column.isprintable():
            shown = repr(printable(column))
            raise bad_file(
                name, f"has a column whose name is empty, too long or has unprintable characters: {shown}", line
            )
        if column in seen:
            raise bad_file(name, f"has two columns named {column!r}", line)
        seen.add(column)


def _groups(rows: Rows) -> Iterator[pa.Table]:
    """Yield row groups of the same size, the last one perhaps smaller."""
    wanted = max(1, min(_MAX_GROUP_ROWS, _GROUP_VALUES // len(rows.schema)))
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in rows.batches:
        while len(batch):
            part = batch.slice(0, wanted - count)
            held.append(part)
            count, batch = count + len(part), batch.slice(len(part))
            if count == wanted:
                yield pa.Table.from_batches(held, rows.schema)
                held, count = [], 0
    if held:
        yield pa.Table.from_batches(held, rows.schema)
