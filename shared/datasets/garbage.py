"""Folders of versions that no row names: left by a crash before the row was written, or by a deletion.

Taking one away and entering one are decided under one lock per content hash, so a folder is never taken from under a row
that is just being written.
"""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path

from sqlalchemy import Connection, Engine, select, text

from shared.datasets.models import DatasetVersion
from shared.datasets.store import META, Stored
from shared.db.engine import read, write
from shared.errors import Unavailable
from shared.jobs.models import Job

#: A folder without a row is left alone for so long (seconds): its registration may be about to write it.
GRACE_SECONDS = 3600.0
_HASH = 64
#: What taken folders are called until they are gone.
_GONE = ".gone-"

_versions = DatasetVersion.__table__  # type: ignore[attr-defined]
_jobs = Job.__table__  # type: ignore[attr-defined]


def keep(conn: Connection, stored: Stored) -> None:
    """Before a row for this content is written. Raises Unavailable where its folder has just been taken away."""
    _lock(conn, stored.sha256)
    if not (stored.folder / META).exists():
        raise Unavailable("The files of this version were being removed; register it again.")


def _lock(conn: Connection, sha256: str) -> None:
    """Until the transaction ends; SQLite has one writer anyway."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"dataset:{sha256}"})


def remove_unnamed(engine: Engine, datasets_root: Path, grace_seconds: float = GRACE_SECONDS) -> int:
    """Remove the folders that no version and no unfinished job names; returns how many."""
    old = [path for path in _children(datasets_root) if len(path.name) == _HASH and _age(path) > grace_seconds]
    if old:
        with read(engine) as conn:
            named = set(conn.scalars(select(_versions.c.sha256)))
        for path in old:
            if path.name not in named:
                _take(engine, path)
    gone = [path for path in _children(datasets_root) if path.name.startswith(_GONE)]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return len(gone)


def _take(engine: Engine, path: Path) -> None:
    """Out of the way in one step, so that nobody opens half of it."""
    with write(engine) as conn:
        _lock(conn, path.name)
        named = conn.scalar(select(_versions.c.sha256).where(_versions.c.sha256 == path.name).limit(1))
        if named is None and path.name not in _read_now(conn):
            path.rename(path.with_name(f"{_GONE}{path.name}-{uuid.uuid4().hex}"))


def _read_now(conn: Connection) -> set[str]:
    """What unfinished jobs are pinned to."""
    living = conn.scalars(select(_jobs.c.pinned).where(_jobs.c.finished_at.is_(None)))
    return {str(pinned.get(key)) for pinned in living for key in ("dataset_sha256", "evaluate_sha256")}


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _age(path: Path) -> float:
    """Seconds since something in it was made; caches beside the data count."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
