"""counter: fold what changes added to counters, so that reading a counter reads few rows."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.db import counters
from shared.db.engine import read, write
from shared.settings import Settings
from worker.maintenance.service import Counts

#: Batches in one pass. Too low: rows pile up while many jobs are submitted. Too high: one pass delays the other
#: services.
BATCHES = 20


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"folded": rows}. The write lock is taken only if there is something to fold."""
    folded = 0
    for _ in range(BATCHES):
        with read(engine) as conn:
            if not counters.can_fold(conn):
                break
        with write(engine) as conn:
            rows = counters.fold(conn)
        if not rows:  # another process folds
            break
        folded += rows
    return {"folded": folded}
