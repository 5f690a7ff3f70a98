"""expired, rescue: jobs of workers that died, froze or lost their network."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from nightshift.states import JobState
from shared.clock import db_now
from shared.db.engine import on_commit
from shared.db.schema import job_logs, jobs
from shared.events import emit
from shared.jobs.retry import after_failure
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions.endings import COUNTER_COLUMNS, record_failure, retry_counters
from shared.jobs.transitions.quarantine import began
from shared.jobs.transitions.statements import RUNNING, UNFINISHED
from shared.jobs.transitions.values import LAST_LINES, LONGEST, Ending, Lease


def expired(conn: Connection, limit: int = 200) -> list[tuple[str, int]]:
    """Return (job, fence) of expired leases, the longest expired first."""
    rows = conn.execute(
        select(jobs.c.id, jobs.c.fence)
        .where(jobs.c.state == RUNNING, UNFINISHED, jobs.c.lease_until < db_now())
        .order_by(jobs.c.lease_until)
        .limit(limit)
    )
    return [(row.id, row.fence) for row in rows]


def rescue(conn: Connection, *, job_id: str, seen_fence: int, poison_limit: int) -> JobState | None:
    """End the attempt of an expired lease; None if another process did, or the worker has renewed it."""
    row = conn.execute(
        select(*COUNTER_COLUMNS, jobs.c.worker)
        .where(jobs.c.id == job_id, jobs.c.state == RUNNING, jobs.c.fence == seen_fence, jobs.c.lease_until < db_now())
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    decision = after_failure(AttemptOutcome.LOST, True, retry_counters(row), poison_limit=poison_limit)
    error = {
        "type": "lost",
        "message": f"worker {row.worker} did not renew its lease: it died, froze or lost its network",
        "retryable": True,
    }
    lease = Lease(job_id, seen_fence, row.worker)
    on_commit(conn, partial(emit, "job.rescued", job_id=job_id, attempt=seen_fence, worker=row.worker))
    return record_failure(conn, lease, AttemptOutcome.LOST, error, Ending(evidence=_last_known(conn, lease)), decision)


def _last_known(conn: Connection, lease: Lease) -> dict[str, Any]:
    """Return the evidence that had reached SQL, because the end of the runner was not observed."""
    has_begun = began(conn, lease.job_id, (lease.fence,))
    progress = conn.scalar(select(jobs.c.progress).where(jobs.c.id == lease.job_id)) if has_begun else None
    lines = conn.execute(
        select(job_logs.c.level, job_logs.c.message)
        .where(job_logs.c.job_id == lease.job_id, job_logs.c.fence == lease.fence)
        .order_by(job_logs.c.seq.desc())
        .limit(LAST_LINES)
    ).all()
    known = {name: (progress or {}).get(name) for name in ("phase", "step")}
    tail = [f"{line.level}: {line.message[:LONGEST]}" for line in reversed(lines)]
    return {**known, "last_frames": [], "log_tail": tail}
