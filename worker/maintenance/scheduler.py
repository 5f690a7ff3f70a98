"""scheduler: create the jobs of due schedule ticks, each exactly once, and of ticks that waited.

The database's clock decides what is due and a unique constraint which process creates it, so that any number of
processes may run this, be killed in it, or have wrong clocks. One transaction per schedule: a failing schedule delays
no other.
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

#: Schedules per pass. Too low: a thousand one-minute schedules lag. Too high: one pass delays the other services.
BATCH = 500


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return the number of ticks by outcome."""
    counts = Counter({outcome.value: 0 for outcome in TickOutcome})
    with read(engine) as conn:
        waiting, due = queries.waiting_ids(conn), queries.due_ids(conn, BATCH)
    for schedule_id in waiting:
        counts += _run_step(engine, schedule_id, transitions.promote)
    for schedule_id in due:
        counts += _run_step(engine, schedule_id, transitions.take_due)
    return {outcome.value: counts[outcome.value] for outcome in TickOutcome}


def _run_step(engine: Engine, schedule_id: str, step: Callable[[Connection, str], Counter[str]]) -> Counter[str]:
    try:
        with write(engine) as conn:
            return step(conn, schedule_id)
    except Unavailable:
        raise
    except Exception as error:
        emit("schedule.failed", schedule_id=schedule_id, error=f"{type(error).__name__}: {error}")
        return Counter()
