"""Folders named by class, perhaps below folders of parts: `cats/1.jpg`, or `train/cats/1.jpg`, `test/cats/2.jpg`."""

from __future__ import annotations

from collections.abc import Collection


def common_folder(names: list[str], parts: Collection[str]) -> str:
    """Return the folder that holds all class folders, as in a zip of a folder (`pets/`), else ``.

    `parts` are the names, in lower case, of folders that hold a part of the set.
    """
    base = ""
    while True:
        first = {name[len(base) :].split("/", 1)[0] for name in names}
        deeper = all(name[len(base) :].count("/") >= 2 for name in names)
        if len(first) != 1 or not deeper or next(iter(first)).lower() in parts:
            return base
        base += first.pop() + "/"


def part_folder(name: str, parts: Collection[str]) -> str | None:
    """Return the first folder if it names a part: `train` of `train/cats/1.jpg`."""
    first, _, rest = name.partition("/")
    return first if "/" in rest and first.lower() in parts else None
