"""What should be cleaned in a table: outliers of columns of numbers, and rows that are there twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shared.datasets.row_hashes import row_hashes

#: A number is an outlier if it is further than this from the middle half, in lengths of that half (Tukey 1977).
REACH = 1.5
#: Most numbers in memory from which quartiles are found; of a longer table, numbers of evenly spaced rows.
SAMPLE = 4_000_000
#: Rows that are compared with each other, the first ones, at 8 bytes each.
COMPARED = 10_000_000


class Outliers:
    """Finds the outliers of one column of numbers in two passes: `sample` all rows, then `count` all rows."""

    def __init__(self, rows: int, columns: int) -> None:
        self._step = max(1, -(-rows * columns // SAMPLE))
        self._seen, self._count = 0, 0
        self._taken: list[npt.NDArray[np.float64]] = []
        self._fences: tuple[float, float] | None = None

    def sample(self, values: pa.Array) -> None:
        """Look at the next rows, as float64 or whole numbers."""
        first = -self._seen % self._step
        self._seen += len(values)
        self._taken.append(_finite(_numbers(values)[first :: self._step]))

    def count(self, values: pa.Array) -> None:
        """Count the outliers of the next rows."""
        if self._fences is None:
            self._fences = _fences(np.concatenate([*self._taken, np.empty(0)]))
            self._taken = []
        low, high = self._fences
        numbers = _finite(_numbers(values))
        self._count += int(np.count_nonzero((numbers < low) | (numbers > high)))

    def facts(self) -> dict[str, Any] | None:
        """Return how many there are and the range outside of which they are; None if it cannot be told."""
        if self._fences is None or not np.isfinite(self._fences).all():
            return None
        low, high = self._fences
        return {"count": self._count, "low": low, "high": high}


def _fences(numbers: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of usual numbers; an infinite one where the middle half is a single number."""
    if len(numbers):
        lower, upper = (float(value) for value in np.quantile(numbers, (0.25, 0.75)))
        if lower < upper:
            return lower - REACH * (upper - lower), upper + REACH * (upper - lower)
    return -np.inf, np.inf


def _numbers(values: pa.Array) -> npt.NDArray[np.float64]:
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def _finite(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return numbers[np.isfinite(numbers)]


def duplicates(batches: Iterable[Sequence[pa.Array]]) -> dict[str, int] | None:
    """Return {count, of}: rows that equal an earlier one, of the first `COMPARED`; None if they cannot be compared."""
    found: list[npt.NDArray[np.uint64]] = []
    rows = 0
    for columns in batches:
        hashes = row_hashes(columns)
        if hashes is None:
            return None
        found.append(hashes[: COMPARED - rows])
        rows += len(found[-1])
        if rows == COMPARED:
            break
    return {"count": rows - len(np.unique(np.concatenate([*found, np.empty(0, np.uint64)]))), "of": rows}
