"""Reading big arrays from streams: header first, then rows in chunks of a few MB."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from shared.datasets.errors import bad_file, broken_file
from shared.lazy_numpy import np

if TYPE_CHECKING:
    import numpy.typing as npt

#: Bytes read at a time.
CHUNK_BYTES = 4_000_000
#: Limits of an image or label array; a header with larger numbers is taken as damaged.
MAX_ROWS = 100_000_000
MAX_SIDE = 1_024

Array: TypeAlias = "npt.NDArray[Any]"


def read_rows(
    stream: BinaryIO, name: str, dtype: np.dtype[Any], rows: int, row_shape: tuple[int, ...]
) -> Iterator[Array]:
    """Yield exactly `rows` rows in chunks. Raises MalformedRequest if the stream is shorter or longer."""
    row_bytes = dtype.itemsize * math.prod(row_shape)
    at_once, done = max(1, CHUNK_BYTES // row_bytes), 0
    while done < rows:
        wanted = min(at_once, rows - done)
        data = stream.read(wanted * row_bytes)
        if len(data) < wanted * row_bytes:
            raise broken_file(name, f"is cut off: it ends in row {done + len(data) // row_bytes + 1} of {rows}")
        yield np.frombuffer(data, dtype).reshape(wanted, *row_shape)
        done += wanted
    if stream.read(1):
        raise broken_file(name, f"has more data than its header says ({rows} rows)")


def image_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Return (height, width, channels) of an array [n, h, w] or [n, h, w, c]; raises InvalidRequest."""
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise bad_file(
            name, f"has the shape {_short(shape)}; images are [n, height, width] or [n, height, width, 1 or 3]"
        )
    rows, height, width = shape[:3]
    if rows > MAX_ROWS or not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise bad_file(
            name, f"has the shape {_short(shape)}; at most {MAX_ROWS} images of {MAX_SIDE}x{MAX_SIDE} pixels"
        )
    return height, width, shape[3] if len(shape) == 4 else 1


def same_length(name: str, rows: int, labels_name: str, labels: int) -> None:
    """Raise InvalidRequest unless there are as many labels as images."""
    if rows != labels:
        raise bad_file(labels_name, f"has {labels} labels, but {name} has {rows} images")


def _short(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(f"{n:.3g}" if n > 10**12 else str(n) for n in shape[:6]) + ("…]" if len(shape) > 6 else "]")
