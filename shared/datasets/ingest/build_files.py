"""Store any files as a version: with the names that they have, read-only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from nightshift.names import FILES, DataKind
from shared.datasets.errors import bad_file
from shared.datasets.ingest.build import NO_LIMITS, Limits
from shared.datasets.ingest.source_files import Files
from shared.datasets.store import FILES_FOLDER, Stored, publish, seal, staging

#: Bytes copied at a time, and bytes that a small file takes on the disk.
_COPY_BYTES, _BLOCK_BYTES = 1_000_000, 4_096
#: Longest part of a name, and longest name (bytes in UTF-8), as file systems and object stores allow them.
_MAX_PART, _MAX_NAME = 255, 900


@dataclass(frozen=True)
class FileSource:
    """Files to be stored as they are."""

    files: Files
    kind: ClassVar[DataKind] = FILES


def store_files(datasets_root: Path, source: FileSource, limits: Limits = NO_LIMITS) -> Stored:
    """Write a version. Errors of the source are passed on, and nothing is left on disk."""
    files, places = source.files, _places(source.files)
    with staging(datasets_root) as folder:
        limits.check(sum(max(files.size(name), _BLOCK_BYTES) for name in files.names), folder)
        for name, place in places.items():
            _copy(files, name, folder / FILES_FOLDER / place)
        seal(folder)
        splits = {FILES: {"count": len(places)}}
        return publish(folder, {"kind": FILES, "classes": [], "split": None, "splits": splits})


def _copy(files: Files, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.open(name) as stream, target.open("xb") as file:
        while data := stream.read(_COPY_BYTES):
            file.write(data)


def _places(files: Files) -> dict[str, PurePosixPath]:
    """Return where each file goes. Raises InvalidRequest for a name that cannot be stored."""
    places: dict[str, PurePosixPath] = {}
    taken: dict[PurePosixPath, str] = {}
    for name in files.names:
        place = PurePosixPath(name)
        if problem := _problem(place):
            raise bad_file(name, problem)
        if place in taken:
            raise bad_file(name, f"has the same place as {taken[place]}")
        places[name], taken[place] = place, name
    for name, place in places.items():
        for parent in _parents(place):
            if parent in taken:
                raise bad_file(name, f"lies in a folder that is also a file: {parent}")
    return places


def _parents(place: PurePosixPath) -> Iterator[PurePosixPath]:
    yield from (parent for parent in place.parents if parent.parts)


def _problem(place: PurePosixPath) -> str | None:
    """Return why a file cannot be stored under its name, or None. Zips are checked by `zip_directory`, too."""
    if place.is_absolute() or not place.parts or ".." in place.parts:
        return "points outside the folder; use relative names"
    text = str(place)
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        return "has control characters in its name, or a name that is not UTF-8"
    if len(text.encode()) > _MAX_NAME or any(len(part.encode()) > _MAX_PART for part in place.parts):
        return f"has too long a name: at most {_MAX_NAME} bytes, and {_MAX_PART} between two slashes"
    return None
