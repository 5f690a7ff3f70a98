"""Tables of Arrow stored as data sets."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.testing.datasets import store_given


def stored_table(root: Path, table: pa.Table) -> Path:
    """Store a table below a folder and return the folder of the data set."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    return store_given(root, {"t.parquet": buffer.getvalue().to_pybytes()}, "table")
