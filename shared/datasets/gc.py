"""Garbage collection of version folders without a row, left by a deletion or by a crash before the row was written.

Removing a folder and writing its row take the same lock, one per content hash, so a folder is never removed while its
row is being written.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, select, text

from nightshift.errors import Unavailable
from shared.datasets.store import Stored
from shared.db.engine import read, write
from shared.db.schema import dataset_versions as _versions
from shared.db.schema import jobs as _jobs
from shared.storage.local import LocalStorage

#: Minimum age (seconds) at which a folder without a row is removed: its registration may be about to write the row.
GRACE_SECONDS = 3600.0


def keep(conn: Connection, stored: Stored) -> None:
    """Lock a version's content before its row is written. Raises Unavailable if its folder was just removed."""
    _lock(conn, stored.sha256)
    if not stored.is_there():
        raise Unavailable("The files of this version were being removed; register it again.")


def _lock(conn: Connection, sha256: str) -> None:
    """Lock the content hash until the transaction ends; SQLite has a single writer anyway."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"dataset:{sha256}"})


def clear(engine: Engine, storage: LocalStorage, grace_seconds: float = GRACE_SECONDS) -> int:
    """Remove unreferenced folders of data sets; return how many."""
    old = storage.old_datasets(grace_seconds)
    if old:
        with read(engine) as conn:
            named = set(conn.scalars(select(_versions.c.sha256)))
        for sha256 in old:
            if sha256 not in named:
                _take(engine, storage, sha256)
    return storage.clear_datasets()


def _take(engine: Engine, storage: LocalStorage, sha256: str) -> None:
    with write(engine) as conn:
        _lock(conn, sha256)
        named = conn.scalar(select(_versions.c.sha256).where(_versions.c.sha256 == sha256).limit(1))
        if named is None and sha256 not in _pinned(conn):
            storage.take_dataset(sha256)


def _pinned(conn: Connection) -> set[str]:
    """Return the content hashes that unfinished jobs are pinned to."""
    living = conn.scalars(select(_jobs.c.pinned).where(_jobs.c.finished_at.is_(None)))
    return {str(pinned.get(key)) for pinned in living for key in ("dataset_sha256", "evaluate_sha256")}
