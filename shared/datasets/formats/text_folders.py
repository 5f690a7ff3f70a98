"""Text files in class-named folders: `pos/1.txt`, or `train/pos/1.txt`, `test/neg/2.txt`. Each file is a document.

They are recognized only where little else can be meant: every file ends in .txt or .text and lies in a class folder,
and there are at least two classes with two files each. Any other text is plain text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from shared.datasets.errors import bad_file
from shared.datasets.formats.class_folders import common_folder, part_folder
from shared.datasets.formats.labelled import Row, read_labelled
from shared.datasets.formats.parts import PARTS, described, has_suffix, names_part
from shared.datasets.formats.utf8 import MAX_LINE, blocks
from shared.datasets.ingest.build_text import TextSource
from shared.datasets.ingest.source_files import Files, open_unpacked

_SUFFIXES = (".txt", ".text")
_FEWEST_CLASSES, _FEWEST_FILES = 2, 2


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file lies: its part, and the folders and the name below it."""

    part: str
    below: tuple[str, ...]


def recognizes(files: Files) -> bool:
    """Return whether the files can hardly be anything but documents by class."""
    names = described(files)
    if not all(has_suffix(name, _SUFFIXES) for name in names) or all(map(_is_named_by_part, names)):
        return False
    places = _places(names).values()
    if any(not place.part or len(place.below) != 2 or place.below[0].lower() in PARTS for place in places):
        return False
    counts = Counter(place.below[0] for place in places if place.part == "train")
    return len(counts) >= _FEWEST_CLASSES and min(counts.values()) >= _FEWEST_FILES


def _is_named_by_part(name: str) -> bool:
    """Return whether the name of the file itself, without its folders, says its part, as plain text has it."""
    return names_part(PurePosixPath(name).name)


def read(files: Files) -> TextSource:
    """Read documents by class. Raises InvalidRequest, with the file, and the line of what is not text."""
    places = _places(described(files))
    parts: dict[str, list[str]] = {}
    for name, place in sorted(places.items(), key=lambda item: (item[1].below, item[0])):
        _check(name, place)
        parts.setdefault(place.part, []).append(name)
    if "train" not in parts:
        raise bad_file(files.label, f"has {' and '.join(sorted(parts))} but no train folder")
    return read_labelled(files, parts, partial(_row, {name: place.below[0] for name, place in places.items()}))


def _places(names: list[str]) -> dict[str, _Place]:
    base = len(common_folder(names, PARTS))
    in_parts = any(part_folder(name[base:], PARTS) for name in names)
    found = {}
    for name in names:
        folder, below = part_folder(name[base:], PARTS), name[base:].split("/")
        part = PARTS[folder.lower()] if folder else "" if in_parts else "train"
        found[name] = _Place(part, tuple(below[1:] if folder else below))
    return found


def _check(name: str, place: _Place) -> None:
    if len(place.below) < 2 or (len(place.below) == 2 and place.below[0].lower() in PARTS):
        raise bad_file(name, "is not in a class folder; put every text in a folder named after its class")
    if not place.part:
        raise bad_file(name, "is outside the train and test folders; move it into one of them")


def _row(labels: Mapping[str, str], files: Files, name: str) -> Iterator[Row]:
    """Yield the only row of a file: all of its text, without the last line's end."""
    found, size = [], 0
    with open_unpacked(files, name) as stream:
        for block in blocks(stream, name):
            found.append(block)
            size += len(block)
            if size > MAX_LINE:
                raise bad_file(name, f"is longer than {MAX_LINE:,} bytes, but is one document")
    yield Row(b"".join(found).decode().removesuffix("\n"), labels[name])
