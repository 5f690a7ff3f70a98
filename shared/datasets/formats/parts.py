"""The part of a data set that a text or CSV file is, by its name: `train.csv`, `wiki.valid.tokens`, `test/1.txt`."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from shared.datasets.errors import bad_file
from shared.datasets.ingest.source_files import Files

#: Words that name a part, in names of files and folders.
PARTS = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid",
         "dev": "valid", "test": "test", "testing": "test"}  # fmt: skip
_WORD = re.compile(r"[A-Za-z]+")
#: Files that describe a set and are ignored.
_ABOUT = re.compile(r"(readme|licen[cs]e|copying|changelog|citation)(\.[a-z]+)?", re.IGNORECASE)


def by_part(files: Files, suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Group the files by part. If no name contains a part, all files are `train`.

    Raises InvalidRequest if only some names do, or for a file with another suffix.
    """
    names = described(files)
    for name in names:
        if len(names) > 1 and not has_suffix(name, suffixes):
            raise bad_file(name, f"does not end in {', '.join(suffixes)}; remove it or set the format (--format)")
    parts: dict[str, list[str]] = {}
    unnamed = None
    for name in names:
        part = _part_of(name)
        unnamed = name if part is None else unnamed
        parts.setdefault(part or "train", []).append(name)
    if unnamed and any(_part_of(name) for name in names):
        if len(names) > 1:
            raise bad_file(
                unnamed, "has none of train, valid, test in its name, but other files have; rename or remove it"
            )
    elif "train" not in parts and len(names) > 1:
        raise bad_file(files.label, f"has {' and '.join(sorted(parts))} files but none named train")
    # A single file is the whole set, whatever its name.
    return parts if len(names) > 1 else {"train": names}


def described(files: Files) -> list[str]:
    """Return the files without those that describe the set, unless there are no others."""
    return [name for name in files.names if not _ABOUT.fullmatch(PurePosixPath(name).name)] or files.names


def _part_of(name: str) -> str | None:
    path = PurePosixPath(name)
    words = [*_WORD.findall(path.name.lower()), *reversed([folder.lower() for folder in path.parts[:-1]])]
    return next((PARTS[word] for word in words if word in PARTS), None)


def names_part(name: str) -> bool:
    """Return whether a name says its part."""
    return _part_of(name) is not None


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether a name ends so, packed or not."""
    return name.lower().removesuffix(".gz").endswith(suffixes)


def have_suffix(files: Files, suffixes: tuple[str, ...]) -> bool:
    """Return whether all files, without those that describe the set, are named so."""
    return all(has_suffix(name, suffixes) for name in described(files))
