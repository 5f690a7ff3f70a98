"""preemptor: ask a running job to release its worker for an urgent job that no idle worker takes."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.jobs import transitions
from shared.jobs.preemption import Rules
from shared.settings import Settings
from worker.maintenance.service import Counts


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"preempted": running jobs asked}: at most one per urgent job at a time."""
    rules = Rules(settings.preempt_priority_gap, settings.preempt_patience_seconds, settings.preempt_quiet_seconds)
    with read(engine) as conn:
        urgent = transitions.urgent_ids(conn, rules)
    asked = 0
    for job_id in urgent:
        with write(engine) as conn:
            asked += transitions.request_preemption(conn, job_id, rules, settings.lease_seconds) is not None
    return {"preempted": asked}
