"""The rows of a data set as batch inference counts them: its parts one after the other, in stored order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.datasets.store import OpenDataset


class RowIndex:
    """Which rows of which split a range of all rows covers, and what they are called: the file they came from where
    the data set knows it, else `train/17`."""

    def __init__(self, stored: OpenDataset) -> None:
        self._stored = stored
        self._counts = {split: stored.count(split) for split in stored.splits}
        self.total = sum(self._counts.values())

    def pieces(self, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
        """(split, first, last): rows `first` … `last - 1` of that split."""
        before = 0
        for split, count in self._counts.items():
            first, last = max(start - before, 0), min(stop - before, count)
            if first < last:
                yield split, first, last
            before += count

    def ids(self, split: str, first: int, last: int) -> pa.Array:
        names = self._stored.ids(split)
        if names is not None:
            return pa.array(names[first:last].astype(object), pa.binary()).cast(pa.string())
        numbers = pa.array(np.arange(first, last, dtype=np.int64)).cast(pa.string())
        return pc.binary_join_element_wise(split, numbers, "/")

    def split_column(self, split: str, count: int) -> pa.Array:
        return pa.array([split], pa.string()).take(pa.array(np.zeros(count, np.int64)))
