"""remover: delete the rows of deleted jobs, schedules and webhooks in batches."""

from __future__ import annotations

from time import monotonic, sleep

from sqlalchemy import Engine

from shared.db import removals
from shared.db.engine import read, write
from shared.db.removals import Kind
from shared.failpoints import failpoint
from shared.settings import Settings
from worker.maintenance.service import Counts

#: Batches in one pass. Too low: millions of rows stay for hours. Too high: one pass delays the other services.
BATCHES = 20


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"rows": deleted}. The rest waits for the next pass."""
    with read(engine) as conn:
        waiting = removals.pending(conn, BATCHES)
    rows, left = 0, BATCHES
    for kind, removed_id in waiting:
        while left > 0 and (gone := _batch(engine, kind, removed_id)):
            rows, left = rows + gone, left - 1
    return {"rows": rows}


def _batch(engine: Engine, kind: Kind, removed_id: str) -> int:
    """Delete a batch, then sleep as long as it took.

    Writers of other processes poll for SQLite's lock and need the pause.
    """
    started = monotonic()
    with write(engine) as conn:
        gone = removals.clear(conn, kind, removed_id, removals.BATCH)
        failpoint("removal.before_commit")
    failpoint("removal.batch_deleted")
    sleep(min(monotonic() - started, 1.0))
    return gone
