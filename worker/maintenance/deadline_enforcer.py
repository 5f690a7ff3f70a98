"""deadline_enforcer: time out jobs whose deadline has passed.

A supervisor enforces the deadline of its own job; this service covers jobs without a live supervisor.
"""

from __future__ import annotations

from sqlalchemy import Engine

from shared.db.engine import write
from shared.jobs import transitions
from shared.settings import Settings
from worker.maintenance.service import Counts


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"timed_out": n}. The supervisor of a running job has its stop grace first."""
    with write(engine) as conn:
        expired = transitions.expire_deadlines(conn, grace_seconds=2 * settings.stop_grace_seconds)
    return {"timed_out": len(expired)}
