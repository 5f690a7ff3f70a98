"""A folder or zip of class-named folders of JPEG or PNG files: `cats/1.jpg`, or `train/cats/1.jpg`, `test/cats/2.jpg`.

Two passes in bounded memory: first the headers (size, mode, whether content and suffix agree), then the pixels,
decoded on all cores with a bounded read-ahead.

Stored size: the images' own if it is the same for all and at most 256x256; otherwise a square whose side is the median
of the longer sides, at most 224. A job resizes them to its model's input.
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
from statistics import median_high
from typing import TYPE_CHECKING, Any

from shared.datasets.errors import bad_file, printable
from shared.datasets.formats.class_folders import common_folder, part_folder
from shared.datasets.ingest.build import Images, ImageSource, ImageSplit
from shared.datasets.ingest.source_files import Files
from shared.lazy_numpy import np
from shared.optional_imports import need

if TYPE_CHECKING:
    from PIL.Image import Image

#: Largest side (pixels) at which images of one size are stored as they are; larger or mixed ones are scaled.
KEEP_SIDE = 256
#: Largest side of scaled images (pixels): the input of the largest preset.
SCALED_SIDE = 224
#: Most pixels of an image, against decompression bombs: decoding takes four bytes each.
MAX_PIXELS = 50_000_000
#: Largest image file (bytes).
MAX_FILE_BYTES = 64_000_000
#: Images decoded at a time, per core. Too high: more memory. Too low: cores wait for the slowest image.
_AHEAD = 4

#: Pillow's modes without color, 1 to 16 bits a pixel.
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
    id: str  # shown to users: the name below the common folder
    label: str


def recognizes(files: Files) -> bool:
    """Return whether there are JPEG or PNG files."""
    return any(_suffix(name) in _FORMATS for name in files.names)


def read(files: Files, image_size: tuple[int, int] | None = None) -> ImageSource:
    """Read images by class. `image_size` (height, width) overrides the stored size."""
    entries = _entries(files)
    if "train" not in entries:
        raise bad_file(files.label, f"has {' and '.join(sorted(entries))} but no train folder")
    classes = sorted({entry.label for entry in entries["train"]})
    sizes, grey = _survey(files, [entry.name for split in sorted(entries) for entry in entries[split]])
    shape = (*(image_size or _stored_size(sizes)), 1 if grey else 3)
    return ImageSource(classes, shape, {s: _split(files, found, classes, shape) for s, found in entries.items()})


# -- names ----------------------------------------------------------------------------------------


def _entries(files: Files) -> dict[str, list[_Entry]]:
    """Return the images of each split, sorted by class and name."""
    base = len(common_folder(files.names, _SPLITS))
    split_folders = {found for name in files.names if (found := part_folder(name[base:], _SPLITS))}
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


def _check_place(name: str, parts: list[str], inner: list[str], has_splits: bool) -> None:
    if _suffix(name) not in _FORMATS:
        raise bad_file(name, "is not an image; class folders hold only .jpg, .jpeg and .png files")
    if len(inner) < 2:
        raise bad_file(name, "is not in a class folder; put every image in a folder named after its class")
    if has_splits and len(parts) == len(inner):
        raise bad_file(name, "is outside the train and test folders; move it into one of them")


def _check_labels(entries: dict[str, list[_Entry]]) -> None:
    trained = {entry.label for entry in entries.get("train", [])}
    for found in entries.values():
        for entry in found:
            if entry.label not in trained and trained:
                raise bad_file(
                    entry.name, f"is of class {printable(entry.label)}, which the training part does not have"
                )
            if entry.label != printable(entry.label):
                raise bad_file(entry.name, "is in a folder whose name is too long or has unprintable characters")


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


# -- pixels ---------------------------------------------------------------------------------------


def _survey(files: Files, names: list[str]) -> tuple[Counter[tuple[int, int]], bool]:
    """Count the images of each (height, width), and whether all are gray. Raises InvalidRequest for other files."""
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for name in names:
        height, width, mode = _header(files, name)
        sizes[height, width] += 1
        grey = grey and mode in _GREY
    return sizes, grey


def _header(files: Files, name: str) -> tuple[int, int, str]:
    """Return (height, width, mode), read without decoding."""
    if files.size(name) > MAX_FILE_BYTES:
        raise bad_file(name, f"is larger than {MAX_FILE_BYTES:,} bytes")
    with files.open(name) as stream, _opened(stream, name) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise bad_file(name, f"has {width}x{height} pixels; at most {MAX_PIXELS:,} are decoded")
        if image.format != _FORMATS[_suffix(name)]:
            raise bad_file(name, f"has the suffix {_suffix(name)} but its content is {image.format}; rename it")
        return height, width, image.mode


def _opened(stream: Any, name: str) -> Image:
    pillow = need("PIL.Image", "pillow")
    try:
        # Pillow's own bomb check has a higher limit than ours.
        return pillow.open(stream, formats=("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"))  # type: ignore[no-any-return]
    except pillow.DecompressionBombError as error:
        raise bad_file(name, f"has too many pixels; at most {MAX_PIXELS:,} are decoded") from error
    except Exception as error:  # Pillow's decoders raise many types for damaged input
        raise bad_file(name, "is not a readable JPEG or PNG (another format, empty or cut off)") from error


def _stored_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    if len(sizes) == 1 and max(next(iter(sizes))) <= KEEP_SIDE:
        return next(iter(sizes))
    longer: Counter[int] = Counter()
    for size, count in sizes.items():
        longer[max(size)] += count
    side = min(SCALED_SIDE, median_high(longer.elements()))
    return side, side


def _split(files: Files, entries: list[_Entry], classes: list[str], shape: tuple[int, int, int]) -> ImageSplit:
    number = {name: index for index, name in enumerate(classes)}
    labels = np.fromiter((number[entry.label] for entry in entries), np.int64, len(entries))
    names = [entry.name for entry in entries]
    return ImageSplit(labels, partial(_chunks, files, names, shape), [entry.id for entry in entries])


def _chunks(files: Files, names: list[str], shape: tuple[int, int, int]) -> Iterator[Images]:
    """Yield images in order, decoded by a thread pool with a bounded read-ahead."""
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
    """Return one image as uint8 [1, height, width, channels]."""
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
    """Rotate the image by its EXIF orientation."""
    turned: Image = need("PIL.ImageOps", "pillow").exif_transpose(image)
    return turned


def _scaled(image: Image, channels: int, size: tuple[int, int]) -> Image:
    if image.mode in ("I;16", "I"):  # 16 bits a pixel: keep the upper eight
        image = need("PIL.Image", "pillow").fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    return image if image.size == size else image.resize(size, resample=need("PIL.Image", "pillow").Resampling.BILINEAR)
