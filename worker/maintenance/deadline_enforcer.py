"""reaper: ends jobs whose deadline has passed. A supervisor watches its own; this is for those that nobody watches."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.db.engine import write
from shared.jobs import transitions
from shared.settings import Settings
from worker.maintenance.service import Counts


def run_once(engine: Engine, settings: Settings) -> Counts:
    """{"timed_out": n}. A running job's supervisor has its stop grace before this steps in."""
    with write(engine) as conn:
        late = transitions.expire_deadlines(conn, grace_seconds=2 * settings.stop_grace_seconds)
    return {"timed_out": len(late)}
