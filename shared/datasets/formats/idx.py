"""IDX, the format of MNIST (http://yann.lecun.com/exdb/mnist): a folder or zip with the published file names.

`train-images-idx3-ubyte[.gz]`, `train-labels-idx1-ubyte[.gz]` and optionally a test part, `t10k-…` or `test-…`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import partial

from shared.datasets.errors import bad_file, broken_file
from shared.datasets.formats.arrays import image_shape, read_rows, same_length
from shared.datasets.ingest.build import Images, ImageSource, ImageSplit, Labels
from shared.datasets.ingest.source_files import Files, open_unpacked
from shared.lazy_numpy import np

_NAME = re.compile(r"(?:.*/)?(train|t10k|test)-(images|labels)[-.]idx\d-ubyte(?:\.gz)?", re.IGNORECASE)


def recognizes(files: Files) -> bool:
    """Return whether there are files with MNIST's names."""
    return any(_NAME.fullmatch(name) for name in files.names)


def read(files: Files) -> ImageSource:
    """Read IDX files. Raises InvalidRequest, MalformedRequest."""
    found: dict[tuple[str, str], str] = {}
    for name in files.names:
        if match := _NAME.fullmatch(name):
            key = ("train" if match[1].lower() == "train" else "test", match[2].lower())
            if key in found:
                raise bad_file(name, f"is the same part as {found[key]}; remove one of them")
            found[key] = name
    shapes, splits = set(), {}
    for split in ("train", "test") if ("test", "images") in found or ("test", "labels") in found else ("train",):
        images, labels = (_required(files, found, split, part) for part in ("images", "labels"))
        shape, splits[split] = _split(files, images, labels)
        shapes.add(shape)
    if len(shapes) > 1:
        raise bad_file(found["test", "images"], "has images of another size than the training part")
    count = max(int(split.labels.max(initial=0)) for split in splits.values()) + 1
    return ImageSource([str(n) for n in range(count)], shapes.pop(), splits)


def _required(files: Files, found: dict[tuple[str, str], str], split: str, part: str) -> str:
    if (split, part) not in found:
        stem = "train" if split == "train" else "t10k"
        wanted = f"{stem}-{part}-idx{3 if part == 'images' else 1}-ubyte"
        raise bad_file(files.label, f"has no {wanted} or {wanted}.gz; put images and labels in one folder or zip")
    return found[split, part]


def _split(files: Files, images: str, labels: str) -> tuple[tuple[int, int, int], ImageSplit]:
    label_shape, image_dims = _header(files, labels), _header(files, images)
    if len(label_shape) != 1:
        raise bad_file(labels, f"has {len(label_shape)} dimensions; labels have one")
    shape = image_shape(image_dims, images)
    same_length(images, image_dims[0], labels, label_shape[0])
    parts = list(_rows(files, labels, label_shape[0], ()))
    values: Labels = np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)
    return shape, ImageSplit(values, partial(_rows, files, images, image_dims[0], shape))


def _rows(files: Files, name: str, rows: int, row_shape: tuple[int, ...]) -> Iterator[Images]:
    with open_unpacked(files, name) as stream:
        stream.read(_header_bytes(stream.read(4)) - 4)
        yield from read_rows(stream, name, np.dtype(np.uint8), rows, row_shape)


def _header(files: Files, name: str) -> tuple[int, ...]:
    with open_unpacked(files, name) as stream:
        head = stream.read(4)
        if len(head) < 4:
            raise broken_file(name, "is cut off in its header")
        if head[:2] != b"\0\0" or not 1 <= head[3] <= 4:
            raise broken_file(name, "is not an IDX file")
        if head[2] != 0x08:
            raise bad_file(name, f"has data type 0x{head[2]:02x}; only unsigned bytes (0x08) are supported")
        sizes = stream.read(4 * head[3])
        if len(sizes) < 4 * head[3]:
            raise broken_file(name, "is cut off in its header")
        return struct.unpack(f">{head[3]}I", sizes)


def _header_bytes(head: bytes) -> int:
    return 4 + 4 * head[3]
