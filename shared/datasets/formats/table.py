"""Tables: one CSV or Parquet file."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath

from shared.datasets.errors import bad_file
from shared.datasets.formats import table_csv, table_parquet
from shared.datasets.formats.parts import described
from shared.datasets.ingest.build_table import TableSource
from shared.datasets.ingest.source_files import Files, is_parquet


def read(files: Files) -> TableSource:
    """Open a table. Raises InvalidRequest unless there is exactly one file."""
    names = described(files)
    if len(names) != 1:
        raise bad_file(
            files.label, f"holds {len(names)} files, but a table is one CSV or Parquet file; join them first"
        )
    (name,) = names
    reader = table_parquet if is_parquet(files, name) else table_csv
    return TableSource(PurePosixPath(name).name, partial(reader.opened, files, name), files.size(name))
