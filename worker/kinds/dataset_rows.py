"""Rows of batch inference: all splits of a data set one after the other, in stored order; the text of a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.datasets.store import OpenDataset


class RowIndex:
    """Maps row numbers to splits and row ids: the original file where it is known, else `train/17`."""

    def __init__(self, stored: OpenDataset) -> None:
        self._stored = stored
        self._counts = {split: stored.count(split) for split in stored.splits}
        self.total = sum(self._counts.values())

    def pieces(self, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
        """Yield (split, first, last) for rows `start` … `stop - 1`; `last` is exclusive."""
        before = 0
        for split, count in self._counts.items():
            first, last = max(start - before, 0), min(stop - before, count)
            if first < last:
                yield split, first, last
            before += count

    def ids(self, split: str, first: int, last: int) -> pa.Array:
        """Return the ids of rows `first` … `last - 1` of a split."""
        names = self._stored.ids(split)
        if names is not None:
            return pa.array(names[first:last].astype(object), pa.binary()).cast(pa.string())
        numbers = pa.array(np.arange(first, last, dtype=np.int64)).cast(pa.string())
        return pc.binary_join_element_wise(split, numbers, "/")

    def split_column(self, split: str, count: int) -> pa.Array:
        """Return the name of the split `count` times."""
        return pa.array([split], pa.string()).take(pa.array(np.zeros(count, np.int64)))


def read_document(file: BinaryIO, begin: int, end: int, most: int) -> tuple[str, str]:
    """Return a document and "", or "" and why it cannot be used: more than `most` bytes, or not UTF-8."""
    if end - begin > most:
        return "", f"the document is longer than {most:,} bytes"
    file.seek(begin)
    try:
        return file.read(end - begin).decode(), ""
    except UnicodeDecodeError as failure:
        return "", f"the document is not UTF-8 at byte {failure.start}"
