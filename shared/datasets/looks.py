"""What the data set's page and `GET /v1/datasets/{name}` show of the content of files and tables.

It is found once, when a version is stored, and kept in the version's `summary`, not in its files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nightshift.names import FILES, TABLE
from shared.datasets.store import FILES_FOLDER, Stored

#: Files that are listed.
SHOWN_FILES = 100


def looked_at(stored: Stored) -> Stored:
    """Return the version with a `preview` of its content added to `meta`, where its kind has one."""
    if stored.meta["kind"] == FILES:
        return replace(stored, meta={**stored.meta, "preview": {"files": first_files(stored.folder / FILES_FOLDER)}})
    if stored.meta["kind"] == TABLE:
        from shared.datasets import table_look  # imports pyarrow, which only tables need

        return replace(stored, meta={**stored.meta, "preview": table_look.look(stored.folder, stored.line_of)})
    return stored


def first_files(folder: Path) -> list[dict[str, Any]]:
    """Return the first files by name, with their sizes."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [{"path": name, "size_bytes": (folder / name).stat().st_size} for name in found[:SHOWN_FILES]]
