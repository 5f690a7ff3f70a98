"""A folder or zip of class-named folders of JPEG or PNG files: `cats/1.jpg`, or `train/cats/1.jpg`, `test/cats/2.jpg`.

Two passes, neither holding images: the headers (size, mode, whether the content is what the name says), then the
pixels, decoded on all cores a bounded number at a time.

Stored size: the images' own where they all have the same and it is at most 256x256; else a square with the median
longer side, at most 224. A job scales from there to what its model asks for.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.datasets.errors import bad_file, printable
from shared.datasets.ingest.build import Images, ImageSource, ImageSplit
from shared.datasets.ingest.source_files import Files
from shared.optional_imports import need

if TYPE_CHECKING:
    from PIL.Image import Image

#: Images kept as they are up to this side (pixels); larger or mixed ones are scaled.
KEEP_SIDE = 256
#: Largest side of scaled images (pixels): what the largest preset reads.
SCALED_SIDE = 224
#: Pixels above which an image counts as a bomb: decoding takes four bytes each.
MAX_PIXELS = 50_000_000
#: Largest image file (bytes).
MAX_FILE_BYTES = 64_000_000
#: Images decoded at a time, per core. Higher: more memory. Lower: cores wait for the slowest image.
_AHEAD = 4

#: Modes without colour (Pillow), 1 to 16 bits a pixel.
_GREY = {"1", "L", "LA", "I;16", "I"}
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str  # in the files
    id: str  # what users see: the name below folders that hold everything
    label: str


def recognises(files: Files) -> bool:
    return any(_suffix(name) in _FORMATS for name in files.names)


def read(files: Files, image_size: tuple[int, int] | None = None) -> ImageSource:
    """`image_size`: (height, width) to store, in place of the rule above."""
    entries = _entries(files)
    if "train" not in entries:
        raise bad_file(files.label, f"has {' and '.join(sorted(entries))} but no train folder")
    classes = sorted({entry.label for entry in entries["train"]})
    sizes, grey = _survey(files, [entry.name for split in sorted(entries) for entry in entries[split]])
    shape = (*(image_size or _stored_size(sizes)), 1 if grey else 3)
    return ImageSource(classes, shape, {s: _split(files, found, classes, shape) for s, found in entries.items()})


# -- names ----------------------------------------------------------------------------------------


def _entries(files: Files) -> dict[str, list[_Entry]]:
    """The images of each split, by class and name."""
    base = len(_common_folder(files.names))
    split_folders = {found for name in files.names if (found := _split_folder(name[base:]))}
    entries: dict[str, list[_Entry]] = {}
    for name in files.names:
        parts = name[base:].split("/")
        if len(parts) == 1 and _suffix(name) not in _FORMATS:
            continue  # a README beside the class folders
        split = _SPLITS[parts[0].lower()] if parts[0] in split_folders else "train"
        inner = parts[1:] if parts[0] in split_folders else parts
        _check_place(name, parts, inner, bool(split_folders))
        # One string per class and, mostly, per image: a million of them stay small.
        entries.setdefault(split, []).append(_Entry(name, name[base:], sys.intern(inner[0])))
    _check_labels(entries)
    return {split: sorted(found, key=lambda e: (e.label, e.id)) for split, found in entries.items()}


def _split_folder(name: str) -> str | None:
    """`train` of `train/cats/1.jpg`."""
    first, _, rest = name.partition("/")
    return first if "/" in rest and first.lower() in _SPLITS else None


def _check_place(name: str, parts: list[str], inner: list[str], has_splits: bool) -> None:
    if _suffix(name) not in _FORMATS:
        raise bad_file(name, "is no image; class folders hold .jpg, .jpeg and .png files only")
    if len(inner) < 2:
        raise bad_file(name, "lies in no class folder; put every image in a folder named after its class")
    if has_splits and len(parts) == len(inner):
        raise bad_file(name, "lies beside the train and test folders; put it into one of them")


def _check_labels(entries: dict[str, list[_Entry]]) -> None:
    trained = {entry.label for entry in entries.get("train", [])}
    for found in entries.values():
        for entry in found:
            if entry.label not in trained and trained:
                raise bad_file(
                    entry.name, f"is of class {printable(entry.label)}, which the training part does not have"
                )
            if entry.label != printable(entry.label):
                raise bad_file(
                    entry.name, "lies in a folder whose name is too long or has characters that cannot be shown"
                )


def _common_folder(names: list[str]) -> str:
    """`pets/` where everything lies in `pets/` and there are folders below it: a zip of a folder."""
    base = ""
    while True:
        first = {name[len(base) :].split("/", 1)[0] for name in names}
        deeper = all(name[len(base) :].count("/") >= 2 for name in names)
        if len(first) != 1 or not deeper or next(iter(first)).lower() in _SPLITS:
            return base
        base += first.pop() + "/"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


# -- pixels ---------------------------------------------------------------------------------------


def _survey(files: Files, names: list[str]) -> tuple[Counter[tuple[int, int]], bool]:
    """How many images there are of each (height, width), and whether all are grey. Raises for what is no image."""
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for name in names:
        height, width, mode = _header(files, name)
        sizes[height, width] += 1
        grey = grey and mode in _GREY
    return sizes, grey


def _header(files: Files, name: str) -> tuple[int, int, str]:
    """(height, width, mode), read without decoding."""
    if files.size(name) > MAX_FILE_BYTES:
        raise bad_file(name, f"is larger than {MAX_FILE_BYTES:,} bytes")
    with files.open(name) as stream, _opened(stream, name) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise bad_file(name, f"has {width}x{height} pixels; at most {MAX_PIXELS:,} are decoded")
        if image.format != _FORMATS[_suffix(name)]:
            raise bad_file(name, f"is named {_suffix(name)} but its content is {image.format}; rename it")
        return height, width, image.mode


def _opened(stream: Any, name: str) -> Image:
    pillow = need("PIL.Image", "pillow")
    try:
        # The limit of Pillow's own bomb check lies above ours, so that ours names the file.
        return pillow.open(stream, formats=("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"))  # type: ignore[no-any-return]
    except pillow.DecompressionBombError as error:
        raise bad_file(name, f"has too many pixels; at most {MAX_PIXELS:,} are decoded") from error
    except Exception as error:  # Pillow's decoders raise many types for damaged input
        raise bad_file(name, "is no JPEG or PNG that can be read, or it is empty or cut off") from error


def _stored_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    if len(sizes) == 1 and max(next(iter(sizes))) <= KEEP_SIDE:
        return next(iter(sizes))
    longer: Counter[int] = Counter()
    for size, count in sizes.items():
        longer[max(size)] += count
    side = min(SCALED_SIDE, _median(longer))
    return side, side


def _median(counts: Counter[int]) -> int:
    """The upper median of values given with their counts."""
    left = counts.total() // 2
    for value in sorted(counts):
        left -= counts[value]
        if left < 0:
            return value
    raise ValueError("no values")


def _split(files: Files, entries: list[_Entry], classes: list[str], shape: tuple[int, int, int]) -> ImageSplit:
    number = {name: index for index, name in enumerate(classes)}
    labels = np.fromiter((number[entry.label] for entry in entries), np.int64, len(entries))
    names = [entry.name for entry in entries]
    return ImageSplit(labels, partial(_chunks, files, names, shape), [entry.id for entry in entries])


def _chunks(files: Files, names: list[str], shape: tuple[int, int, int]) -> Iterator[Images]:
    """Images in order, decoded by a pool that runs a bounded number ahead."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        pending: deque[Future[Images]] = deque()
        try:
            for name in names:
                with files.open(name) as stream:
                    data = stream.read(MAX_FILE_BYTES)
                pending.append(pool.submit(_decode, data, name, shape))
                if len(pending) >= workers * _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decode(data: bytes, name: str, shape: tuple[int, int, int]) -> Images:
    """One image as uint8 [1, height, width, channels]."""
    height, width, channels = shape
    with _opened(BytesIO(data), name) as image:
        try:
            if image.size != (width, height):
                image.draft("RGB" if channels == 3 else "L", (width, height))  # JPEG: decode at a smaller scale
            pixels = np.asarray(_scaled(_upright(image), channels, (width, height)), np.uint8)
        except Exception as error:  # Pillow's decoders raise many types for damaged input
            raise bad_file(name, f"cannot be decoded ({error})") from error
    return pixels.reshape(1, height, width, channels)


def _upright(image: Image) -> Image:
    """Turned as its EXIF orientation says."""
    turned: Image = need("PIL.ImageOps", "pillow").exif_transpose(image)
    return turned


def _scaled(image: Image, channels: int, size: tuple[int, int]) -> Image:
    if image.mode in ("I;16", "I"):  # 16 bits a pixel: keep the upper eight
        image = need("PIL.Image", "pillow").fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    return image if image.size == size else image.resize(size, resample=need("PIL.Image", "pillow").Resampling.BILINEAR)
