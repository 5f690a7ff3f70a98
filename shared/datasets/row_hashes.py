"""Hashes of the rows of a table, computed by columns: 64 bits each, enough to count equal rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]

_NULL = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0x100000001B3)
#: A random number for each byte, so that texts of the same bytes in another order differ.
_OF_BYTE = np.random.Philox(key=1).random_raw(256)


def row_hashes(columns: Sequence[pa.Array]) -> Hashes | None:
    """Return a hash of each row; None if a column holds lists or other values that are not compared.

    A missing number equals one that is not a number, and 0.0 equals -0.0.
    """
    found = np.zeros(len(columns[0]) if columns else 0, np.uint64)
    for column in columns:
        values = _hashes(column)
        if values is None:
            return None
        found = _mixed(found * _BASE + np.where(_missing(column), _NULL, values))
    return found


def _mixed(values: Hashes) -> Hashes:
    """Spread changes of single bits over all bits (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _missing(column: pa.Array) -> npt.NDArray[np.bool_]:
    found = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    return np.asarray(found.to_numpy(zero_copy_only=False), np.bool_)


def _hashes(column: pa.Array) -> Hashes | None:
    type = column.type
    if pa.types.is_decimal(type):
        column, type = column.cast(pa.string()), pa.string()
    if pa.types.is_string(type) or pa.types.is_binary(type):
        return _of_texts(column)
    if pa.types.is_floating(type):
        numbers = np.nan_to_num(pc.fill_null(column.cast(pa.float64()), 0).to_numpy(), posinf=1e308, neginf=-1e308)
        return _mixed((numbers + 0.0).view(np.uint64))
    if pa.types.is_integer(type) or pa.types.is_boolean(type) or pa.types.is_temporal(type):
        return _mixed(_whole(column))
    return None


def _whole(column: pa.Array) -> Hashes:
    """Return whole numbers, truth and times as 64 bits."""
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return cast("Hashes", pc.fill_null(column, 0).to_numpy().astype(np.uint64, casting="unsafe"))


def _of_texts(column: pa.Array) -> Hashes:
    """Return polynomial hashes of texts from their bytes in memory, without a loop over rows."""
    column = column.cast(pa.binary())
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    lengths = np.diff(ends)
    found = _mixed(lengths.astype(np.uint64))
    if ends[-1] == ends[0]:
        return found
    values = _OF_BYTE[np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]]
    filled = np.flatnonzero(lengths)
    starts = (ends[:-1] - ends[0])[filled]
    place = np.arange(len(values)) - np.repeat(starts, lengths[filled])
    powers = np.cumprod(np.full(int(lengths.max()), _BASE, np.uint64))
    found[filled] ^= np.add.reduceat(values * powers[place], starts)
    return _mixed(found)
