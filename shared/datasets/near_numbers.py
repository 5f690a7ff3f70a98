"""Columns of text that would hold numbers but for a few values: one bad cell makes a whole column text."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from shared.datasets.formats.column_types import is_missing, is_number

#: Share of numbers among the values from which a column of text is said to be nearly numbers.
_SHARE = 0.95
#: Digits that are a name, not a quantity: with leading zeros, or very many.
_NAMES = r"^\d+$"


@dataclass(frozen=True)
class Exceptions:
    """The values that keep a column from being numbers."""

    count: int
    #: Values that are not missing.
    of: int
    #: The first of them, and its row (from 0).
    value: str
    row: int


class NearNumbers:
    """Finds the exceptions of one column of text, part by part."""

    def __init__(self) -> None:
        self._rows = self._numbers = self._others = 0
        self._names = False
        self._first: tuple[int, str] | None = None

    def add(self, values: pa.Array) -> None:
        """Look at the values of the next rows."""
        before, self._rows = self._rows, self._rows + len(values)
        trimmed = pc.utf8_trim_whitespace(pc.fill_null(values, ""))
        numbers, missing = is_number(trimmed), is_missing(trimmed)
        others = pc.invert(pc.or_(numbers, missing))
        self._numbers += pc.sum(pc.and_(numbers, pc.invert(missing))).as_py() or 0
        count = pc.sum(others).as_py() or 0
        if not count:
            return
        self._others += count
        self._names = self._names or bool(pc.any(pc.match_substring_regex(trimmed.filter(others), _NAMES)).as_py())
        if self._first is None:
            place = pc.index(others, True).as_py()
            self._first = before + place, values[place].as_py()

    def found(self) -> Exceptions | None:
        """Return the exceptions, or None if the values are text, or are names of digits (`00123`)."""
        of = self._numbers + self._others
        if self._first is None or self._names or self._numbers < _SHARE * of:
            return None
        row, value = self._first
        return Exceptions(self._others, of, value, row)


def exceptions(column: pa.ChunkedArray) -> Exceptions | None:
    """Return the exceptions of a column of text, or None."""
    near = NearNumbers()
    for chunk in column.chunks:
        near.add(chunk)
    return near.found()
