"""CIFAR-10's binary format (https://www.cs.toronto.edu/~kriz/cifar.html).

Records of one label byte and 3,072 pixels (red, green and blue planes of 32x32). Files named `*test*` are the test
part, all other `.bin` files the training part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

from shared.datasets.errors import bad_file, broken_file
from shared.datasets.formats.arrays import read_rows
from shared.datasets.ingest.build import Images, ImageSource, ImageSplit, Labels
from shared.datasets.ingest.source_files import Files
from shared.lazy_numpy import np

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_IMAGE = (32, 32, 3)
_RECORD = 1 + 32 * 32 * 3


def recognizes(files: Files) -> bool:
    """Return whether there are `.bin` files."""
    return any(name.lower().endswith(".bin") for name in files.names)


def read(files: Files) -> ImageSource:
    """Read CIFAR-10 files. Raises InvalidRequest, MalformedRequest."""
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for name in files.names:
        # A single file may have any name, because `format` was given.
        if name.lower().endswith(".bin") or len(files.names) == 1:
            parts["test" if "test" in PurePosixPath(name).name.lower() else "train"].append(name)
    if not parts["train"]:
        raise bad_file(
            files.label, "has no training part: a .bin file without 'test' in its name, for example data_batch_1.bin"
        )
    splits = {split: _split(files, names) for split, names in parts.items() if names}
    return ImageSource(CLASSES, _IMAGE, splits)


def _split(files: Files, names: list[str]) -> ImageSplit:
    labels = np.concatenate([_labels(files, name) for name in names])
    return ImageSplit(labels, partial(_images, files, names))


def _labels(files: Files, name: str) -> Labels:
    labels = [records[:, 0] for records in _records(files, name)]
    values: Labels = np.concatenate(labels).astype(np.int64)
    if values.max() >= len(CLASSES):
        row = int(np.argmax(values >= len(CLASSES)))
        raise bad_file(name, f"record {row + 1} has the label {values[row]}; CIFAR-10 has 0 to {len(CLASSES) - 1}")
    return values


def _images(files: Files, names: list[str]) -> Iterator[Images]:
    for name in names:
        for records in _records(files, name):
            yield records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _records(files: Files, name: str) -> Iterator[Images]:
    rows, rest = divmod(files.size(name), _RECORD)
    if rest or not rows:
        raise broken_file(
            name, f"is cut off or not a CIFAR-10 file: {files.size(name)} bytes are not a multiple of {_RECORD}"
        )
    with files.open(name) as stream:
        yield from read_rows(stream, name, np.dtype(np.uint8), rows, (_RECORD,))
