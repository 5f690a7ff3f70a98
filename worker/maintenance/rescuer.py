"""rescuer: take back jobs whose lease expired because their worker was killed, frozen or disconnected."""

from __future__ import annotations

from sqlalchemy import Engine, select

from nightshift.states import JobState
from shared import tracing
from shared.db.engine import read, write
from shared.db.schema import attempts, jobs
from shared.failpoints import failpoint
from shared.jobs import transitions
from shared.settings import Settings
from worker.maintenance.service import Counts

#: Jobs per pass. Too low: many lost workers need several passes. Too high: one pass delays the other services.
BATCH = 200


def run_once(engine: Engine, settings: Settings) -> Counts:
    """Return {"rescued": back in the queue, "failed": poisoned, "stopped": a stop had been requested}."""
    with read(engine) as conn:
        lost = transitions.expired(conn, BATCH)
    counts = {"rescued": 0, "failed": 0, "stopped": 0}
    for job_id, fence in lost:
        failpoint("rescue.selected")
        with write(engine) as conn:
            state = transitions.rescue(conn, job_id=job_id, seen_fence=fence, poison_limit=settings.poison_limit)
        if state is not None:
            counts[_counted_as(state)] += 1
            _trace(engine, job_id, fence)
    return counts


def _trace(engine: Engine, job_id: str, fence: int) -> None:
    if not tracing.is_enabled():
        return
    with read(engine) as conn:
        row = conn.execute(
            select(jobs.c.pinned, attempts.c.worker, attempts.c.started_at, attempts.c.ended_at)
            .join(attempts, attempts.c.job_id == jobs.c.id)
            .where(jobs.c.id == job_id, attempts.c.fence == fence)
        ).one()
    facts = {"nightshift.worker": row.worker}
    tracing.lost(job_id, fence, row.pinned or {}, row.started_at, row.ended_at, facts)


def _counted_as(state: JobState) -> str:
    return {JobState.QUEUED: "rescued", JobState.FAILED: "failed"}.get(state, "stopped")
