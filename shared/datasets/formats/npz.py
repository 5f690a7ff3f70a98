"""`.npz`: `x` (images), `y` (labels) and optionally `x_test`, `y_test`; `x_train`, `y_train` are aliases of `x`, `y`.

Labels are whole numbers [n], or one-hot rows [n, classes] of zeros and a one, in numbers of any type or bool.
Every member's header is checked before its data is read; pickled objects are never loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO, TypeAlias

from shared.datasets.errors import bad_file, broken_file
from shared.datasets.formats.arrays import MAX_ROWS, image_shape, read_rows, same_length
from shared.datasets.ingest.build import Images, ImageSource, ImageSplit, Labels
from shared.datasets.ingest.source_files import Files
from shared.lazy_numpy import np

_ALIASES = {"x_train": "x", "y_train": "y"}
_MAX_HEADER = 10_000
#: Most classes a data set may have: the widest layer a spec allows.
_MAX_CLASSES = 65_536

Header: TypeAlias = "tuple[np.dtype[Any], tuple[int, ...]]"


def recognizes(files: Files) -> bool:
    """Return whether all files are `.npy` members."""
    return bool(files.names) and all(name.endswith(".npy") for name in files.names)


def read(files: Files) -> ImageSource:
    """Read an `.npz` file. Raises InvalidRequest, MalformedRequest."""
    members: dict[str, str] = {}
    for name in files.names:
        key = name.removesuffix(".npy")
        members[_ALIASES.get(key, key)] = name
    _check_names(files, members)
    splits, shapes, counts = {}, set(), []
    for split, x, y in (("train", "x", "y"), ("test", "x_test", "y_test")):
        if x in members:
            shape, classes, splits[split] = _split(files, members[x], members[y])
            shapes.add(shape)
            counts.append(classes)
    if len(shapes) > 1:
        raise bad_file(members["x_test"], "has images of another size than x")
    _same_columns(files, members)
    return ImageSource([str(n) for n in range(max(counts))], shapes.pop(), splits)


def _check_names(files: Files, members: dict[str, str]) -> None:
    wanted = {"x", "y", "x_test", "y_test"}
    if unknown := members.keys() - wanted:
        raise bad_file(members[min(unknown)], "is unknown; an .npz holds x, y and optionally x_test, y_test")
    for x, y in (("x", "y"), ("y", "x"), ("x_test", "y_test"), ("y_test", "x_test")):
        if (x in members or x in ("x", "y")) and y not in members:
            raise bad_file(files.label, f"has no {y}; an .npz holds x, y and optionally x_test, y_test")


def _same_columns(files: Files, members: Mapping[str, str]) -> None:
    """Refuse one-hot labels whose parts differ in the number of classes."""
    dims = [(name, _header_of(files, name)[1]) for key, name in sorted(members.items()) if key.startswith("y")]
    one_hot = [(name, shape[1]) for name, shape in dims if len(shape) == 2 and shape[1] > 1]
    for name, columns in one_hot[1:]:
        if columns != one_hot[0][1]:
            raise bad_file(name, f"has {columns} columns, but {one_hot[0][0]} has {one_hot[0][1]}")


def _split(files: Files, x: str, y: str) -> tuple[tuple[int, int, int], int, ImageSplit]:
    """Return the shape of an image, the number of classes and the images with their labels."""
    (dtype, dims), (label_dtype, label_dims) = _header_of(files, x), _header_of(files, y)
    shape = image_shape(dims, x)
    same_length(x, dims[0], y, label_dims[0] if label_dims else dims[0])
    if dtype.kind not in "iuf":
        raise bad_file(x, f"holds {dtype}; images are uint8 0 … 255 or floats 0 … 1")
    classes, labels = _labels(files, y, label_dtype, label_dims)
    scale = _scale(files, x, dtype, dims[0], shape)
    return shape, classes, ImageSplit(labels, partial(_images, files, x, dtype, dims[0], shape, scale))


def _labels(files: Files, name: str, dtype: np.dtype[Any], dims: tuple[int, ...]) -> tuple[int, Labels]:
    """Return the number of classes and the label of each row."""
    if len(dims) == 2 and dims[1] > 1 and dtype.kind in "biuf":
        return dims[1], _one_hot(files, name, dtype, *dims)
    if len(dims) == 2 and dims[1] == 1:
        dims = dims[:1]
    if len(dims) != 1 or dtype.kind not in "iu":
        raise bad_file(
            name,
            f"has {len(dims)} dimensions of {dtype}; labels are whole numbers, one per image, or one-hot rows "
            "[images, classes]",
        )
    labels = _numbers(files, name, dtype, dims[0])
    return int(labels.max(initial=0)) + 1, labels


def _one_hot(files: Files, name: str, dtype: np.dtype[Any], rows: int, classes: int) -> Labels:
    if classes > _MAX_CLASSES:
        raise bad_file(name, f"has {classes} columns; at most {_MAX_CLASSES} classes are possible")
    found, start = [], 0
    for chunk in _rows(files, name, dtype, rows, (classes,)):
        ones = chunk == 1
        wrong = ((chunk != 0) & ~ones).any(axis=1) | (ones.sum(axis=1) != 1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise bad_file(name, f"row {start + row} is {_shown(chunk[row])}; a one-hot row is a single 1 among zeros")
        found.append(ones.argmax(axis=1))
        start += len(chunk)
    return np.concatenate(found).astype(np.int64) if found else np.empty(0, np.int64)


def _shown(row: Any, most: int = 10) -> str:
    values = [f"{value:.6g}" for value in row[:most].astype(float)]
    return "[" + ", ".join(values) + (", …]" if len(row) > most else "]")


def _numbers(files: Files, name: str, dtype: np.dtype[Any], rows: int) -> Labels:
    chunks = list(_rows(files, name, dtype, rows, ()))
    if not chunks:
        return np.empty(0, np.int64)
    values = np.concatenate(chunks)
    wrong = (values < 0) | (values >= _MAX_CLASSES)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise bad_file(name, f"row {row} is {values[row]}; labels are 0 … {_MAX_CLASSES - 1}")
    return values.astype(np.int64)


def _scale(files: Files, name: str, dtype: np.dtype[Any], rows: int, shape: tuple[int, ...]) -> float:
    """Return the factor that scales pixels to 0 … 255. Reads every pixel unless they are bytes."""
    if dtype == np.uint8:
        return 1.0
    low, high, row = math.inf, -math.inf, 0
    for chunk in _rows(files, name, dtype, rows, shape):
        if dtype.kind == "f" and not np.isfinite(chunk).all():
            at = row + int(np.argmin(np.isfinite(chunk).all(axis=(1, 2, 3))))
            raise bad_file(name, f"image {at} holds NaN or infinity")
        low, high, row = min(low, float(chunk.min())), max(high, float(chunk.max())), row + len(chunk)
    if rows and (low < 0 or high > 255):
        raise bad_file(name, f"holds pixels from {low:.6g} to {high:.6g}; scale them to 0 … 255 (or floats to 0 … 1)")
    return 255.0 if dtype.kind == "f" and high <= 1 else 1.0


def _images(
    files: Files, name: str, dtype: np.dtype[Any], rows: int, shape: tuple[int, ...], scale: float
) -> Iterator[Images]:
    for chunk in _rows(files, name, dtype, rows, shape):
        yield chunk if dtype == np.uint8 else np.rint(chunk.astype(np.float64) * scale).astype(np.uint8)


def _rows(files: Files, name: str, dtype: np.dtype[Any], rows: int, shape: tuple[int, ...]) -> Iterator[Any]:
    with files.open(name) as stream:
        _header(stream, name)
        yield from read_rows(stream, name, dtype, rows, shape)


def _header_of(files: Files, name: str) -> Header:
    with files.open(name) as stream:
        return _header(stream, name)


def _header(stream: BinaryIO, name: str) -> Header:
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream, max_header_size=_MAX_HEADER)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError, RecursionError, OverflowError) as error:
        raise broken_file(name, "is not a .npy array or is cut off in its header") from error
    if dtype.hasobject:
        raise bad_file(
            name, "holds Python objects; store numbers (reading objects means unpickling, which can run code)"
        )
    if fortran and len(shape) > 1:
        raise bad_file(name, "is stored in column-major (Fortran) order; save np.ascontiguousarray(x)")
    if any(n < 0 or n > MAX_ROWS for n in shape) or math.prod(shape) * max(dtype.itemsize, 1) > 2**62:
        raise bad_file(name, f"has an impossible shape ({len(shape)} dimensions)")
    return dtype, shape
