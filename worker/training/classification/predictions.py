"""Rows of batch inference with a classifier of any data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from nightshift.families.learner import Array
from worker.kinds.prediction_files import BadRow

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("row", pa.int64()),
        ("label", pa.string()),
        ("label_index", pa.int32()),
        ("probability", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)


def table(
    ids: pa.Array, splits: pa.Array, rows: Array, classes: list[str], probabilities: Array
) -> tuple[pa.Table, list[BadRow]]:
    """Return predictions as a table whose columns are built from arrays, and the rows whose output is not a number."""
    finite = np.isfinite(probabilities).all(axis=1)
    bad = [
        BadRow(ids[int(i)].as_py(), int(rows[i]), "the model's output is not a number") for i in np.flatnonzero(~finite)
    ]
    best = probabilities.argmax(axis=1)
    offsets = np.arange(0, probabilities.size + 1, probabilities.shape[1], dtype=np.int32)
    columns = [
        ids,
        splits,
        pa.array(rows.astype(np.int64, copy=False)),
        pa.array(classes, pa.string()).take(pa.array(best)),
        pa.array(best.astype(np.int32)),
        pa.array(probabilities[np.arange(len(best)), best]),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(probabilities.reshape(-1))),
    ]
    found = pa.Table.from_arrays(columns, schema=SCHEMA)
    return (found if finite.all() else found.filter(pa.array(finite))), bad
