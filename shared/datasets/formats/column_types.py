"""Types of the columns of a CSV, found from all of its values.

A column is whole numbers, numbers, true and false, dates or times if each of its values is one, and text otherwise.
Numbers with leading zeros and whole numbers of more than 18 digits are names, not quantities: they stay text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

#: Values that mean "missing" in a column that is not text; in all columns an empty value does.
_NULLS = ("", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null")
_DAY, _CLOCK = r"\d{4}-\d{2}-\d{2}", r"\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?"
_WHOLE = r"(0|[1-9]\d{0,17})"
_NUMBER = rf"(?i)^-?({_WHOLE}|{_WHOLE}?\.\d+|{_WHOLE}\.|{_WHOLE}?\.?\d*e[+-]?\d{{1,3}}|inf)$"
#: Type -> pattern of a value. The first type that all values have is chosen.
_TYPES = (
    (pa.bool_(), r"(?i)^(true|false)$"),
    (pa.int64(), rf"^-?{_WHOLE}$"),
    (pa.float64(), _NUMBER),
    (pa.date32(), rf"^{_DAY}$"),
    (pa.timestamp("us"), rf"^{_DAY}([T ]{_CLOCK})?$"),
)


@dataclass
class ColumnType:
    """Finds the type of one column from its values, part by part."""

    _left: list[int] = field(default_factory=lambda: list(range(len(_TYPES))))
    _any_value: bool = False

    def look(self, values: pa.Array) -> None:
        """Rule out the types that these values do not have."""
        if not self._left:
            return
        trimmed = pc.utf8_trim_whitespace(values)
        found = pc.unique(trimmed.filter(pc.invert(is_missing(trimmed))))
        if len(found):
            self._any_value = True
            self._left = [place for place in self._left if _all_are(found, *_TYPES[place])]

    @property
    def chosen(self) -> pa.DataType:
        """Return the type; text for a column without any value."""
        return _TYPES[self._left[0]][0] if self._left and self._any_value else pa.string()


def converted(values: pa.Array, type: pa.DataType) -> pa.Array:
    """Return the values, as text, in their column's type; missing ones are null."""
    if type == pa.string():
        return pc.if_else(pc.equal(values, ""), None, values)
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(is_missing(trimmed), None, trimmed).cast(type)


def is_missing(values: pa.Array) -> pa.Array:
    """Return which texts mean "missing" in a column that is not text."""
    return pc.is_in(values, value_set=pa.array(_NULLS))


def _all_are(values: pa.Array, type: pa.DataType, pattern: str) -> bool:
    if not pc.all(pc.match_substring_regex(values, pattern)).as_py():
        return False
    try:
        values.cast(type)  # 2023-02-30 looks like a date
    except pa.ArrowInvalid:
        return False
    return True


def is_number(values: pa.Array) -> pa.Array:
    """Return which texts are numbers."""
    return pc.match_substring_regex(values, _NUMBER)
