"""A checkpoint whose bytes are right and that still cannot be loaded: after two attempts that tried, it is set aside."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection, select, update

from shared.db.engine import on_commit
from shared.db.schema import attempts, checkpoints, job_events, jobs
from shared.events import emit
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions.values import Lease

#: Endings that loading a checkpoint may have caused; a lost worker or a stop has other reasons.
SUSPICIOUS = frozenset(
    {AttemptOutcome.CRASHED, AttemptOutcome.OUT_OF_MEMORY, AttemptOutcome.STALLED, AttemptOutcome.JOB_ERROR}
)


def set_aside(conn: Connection, lease: Lease, outcome: AttemptOutcome) -> bool:
    """Quarantine the newest checkpoint if this attempt, and the one before it, ended so before either had loaded it.

    The next attempt goes on from the one before (or from the beginning). There are only so many, so this ends.
    """
    pair = (lease.fence - 1, lease.fence)
    if outcome not in SUSPICIOUS or _began(conn, lease.job_id, pair) or not _failed(conn, lease.job_id, pair[0]):
        return False
    ready = (
        select(checkpoints.c.id, checkpoints.c.fence)
        .where(checkpoints.c.job_id == lease.job_id, checkpoints.c.state == "ready")
        .order_by(checkpoints.c.step.desc(), checkpoints.c.created_at.desc())
        .limit(2)
    )
    found = conn.execute(ready).all()
    if not found or found[0].fence >= pair[0]:
        return False
    newest, before = found[0], found[1:]
    conn.execute(update(checkpoints).where(checkpoints.c.id == newest.id).values(state="quarantined"))
    instead = before[0].id if before else None
    conn.execute(update(jobs).where(jobs.c.id == lease.job_id).values(checkpoint_id=instead))
    on_commit(conn, partial(emit, "checkpoint.quarantined", job_id=lease.job_id, checkpoints=[newest.id]))
    return True


def _began(conn: Connection, job_id: str, fences: tuple[int, ...]) -> bool:
    """Whether one of them had loaded its state (`begin` leaves this event)."""
    mine = (job_events.c.job_id == job_id, job_events.c.type == "attempt", job_events.c.fence.in_(fences))
    return conn.execute(select(job_events.c.seq).where(*mine).limit(1)).one_or_none() is not None


def _failed(conn: Connection, job_id: str, fence: int) -> bool:
    found = conn.scalar(select(attempts.c.outcome).where(attempts.c.job_id == job_id, attempts.c.fence == fence))
    return found in {outcome.value for outcome in SUSPICIOUS}
