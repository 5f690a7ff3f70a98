"""scheduler: makes the jobs of ticks that are due, each exactly once, and those of ticks that waited.

The database's clock says what is due and a unique constraint who makes it, so any number of processes may run this, die
in it, or have clocks of their own opinion. One transaction per schedule: one that cannot be served holds up no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sqlalchemy import Connection, Engine

from nightshift.errors import Unavailable
from shared.db.engine import read, write
from shared.events import emit
from shared.schedules import queries, transitions
from shared.schedules.models import TickOutcome
from shared.settings import Settings
from worker.maintenance.service import Counts

#: Schedules per pass. Too low: a thousand schedules of one minute lag. Too high: one pass holds up the other services.
BATCH = 500


def run_once(engine: Engine, settings: Settings) -> Counts:
    """How many ticks got each outcome."""
    counts = Counter({outcome.value: 0 for outcome in TickOutcome})
    with read(engine) as conn:
        waiting, due = queries.waiting_ids(conn), queries.due_ids(conn, BATCH)
    for schedule_id in waiting:
        counts += _served(engine, schedule_id, transitions.promote)
    for schedule_id in due:
        counts += _served(engine, schedule_id, transitions.take_due)
    return {outcome.value: counts[outcome.value] for outcome in TickOutcome}


def _served(engine: Engine, schedule_id: str, step: Callable[[Connection, str], Counter[str]]) -> Counter[str]:
    try:
        with write(engine) as conn:
            return step(conn, schedule_id)
    except Unavailable:
        raise
    except Exception as error:
        emit("schedule.failed", schedule_id=schedule_id, error=f"{type(error).__name__}: {error}")
        return Counter()
