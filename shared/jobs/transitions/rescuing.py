"""expired, rescue: taking back the jobs of workers that are gone, frozen or cut off."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection, select

from shared.clock import db_now
from shared.db.engine import on_commit
from shared.db.schema import jobs
from shared.events import emit
from shared.jobs.retry import after_failure
from shared.jobs.states import AttemptOutcome, JobState
from shared.jobs.transitions.endings import TALLY_COLUMNS, end_badly, tally_of
from shared.jobs.transitions.guard import RUNNING, UNFINISHED
from shared.jobs.transitions.values import Ending, Lease


def expired(conn: Connection, limit: int = 200) -> list[tuple[str, int]]:
    """(job, fence) of leases that ran out, the longest ago first."""
    rows = conn.execute(
        select(jobs.c.id, jobs.c.fence)
        .where(jobs.c.state == RUNNING, UNFINISHED, jobs.c.lease_until < db_now())
        .order_by(jobs.c.lease_until)
        .limit(limit)
    )
    return [(row.id, row.fence) for row in rows]


def rescue(conn: Connection, *, job_id: str, seen_fence: int, poison_limit: int) -> JobState | None:
    """Take back an expired lease. None: somebody else did, or the worker renewed it after all."""
    row = conn.execute(
        select(*TALLY_COLUMNS, jobs.c.worker)
        .where(jobs.c.id == job_id, jobs.c.state == RUNNING, jobs.c.fence == seen_fence, jobs.c.lease_until < db_now())
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    decision = after_failure(AttemptOutcome.LOST, True, tally_of(row), poison_limit=poison_limit)
    error = {
        "type": "lost",
        "message": f"worker {row.worker} did not renew its lease: it is gone, frozen or cut off",
        "retryable": True,
    }
    lease = Lease(job_id, seen_fence, row.worker)
    on_commit(conn, partial(emit, "job.rescued", job_id=job_id, attempt=seen_fence, worker=row.worker))
    return end_badly(conn, lease, AttemptOutcome.LOST, error, Ending(), decision)
