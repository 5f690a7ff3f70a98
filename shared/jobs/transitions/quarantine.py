"""A checkpoint whose bytes are right and that still cannot be loaded: after two attempts that tried, it is set
aside."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

from sqlalchemy import Connection, select, update

from shared.db.engine import on_commit
from shared.db.schema import attempts, checkpoints, job_events, jobs
from shared.events import emit
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions.values import Ending, Lease

#: Endings that loading a checkpoint may have caused; a lost worker or a stop has other reasons.
SUSPICIOUS = frozenset(
    {AttemptOutcome.CRASHED, AttemptOutcome.OUT_OF_MEMORY, AttemptOutcome.STALLED, AttemptOutcome.JOB_ERROR}
)


def is_suspicious(outcome: AttemptOutcome, error: dict[str, Any] | None, ending: Ending) -> bool:
    """Whether loading may have caused this ending. A SIGKILL that neither we nor the kernel for want of memory sent
    (those are other outcomes, or carry our reason) came from outside, as did the end of a whole forkserver: no process
    dies of its own deeds like that, so such deaths count in the job's budget of crashes and against no checkpoint."""
    if outcome not in SUSPICIOUS:
        return False
    unexplained = outcome is AttemptOutcome.CRASHED and (error or {}).get("type") == AttemptOutcome.CRASHED.value
    from_outside = ending.exit_code is None and ending.signal in (None, signal.SIGKILL)
    return not (unexplained and from_outside)


def quarantine(conn: Connection, lease: Lease, outcome: AttemptOutcome, error: dict[str, Any], ending: Ending) -> bool:
    """Quarantine the newest checkpoint if this attempt, and the one before it, ended so before either had loaded it.

    The next attempt goes on from the one before (or from the beginning). There are only so many, so this ends.
    """
    pair = (lease.fence - 1, lease.fence)
    if not is_suspicious(outcome, error, ending) or _began(conn, lease.job_id, pair):
        return False
    if not _was_suspicious(conn, lease.job_id, pair[0]):
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


def _was_suspicious(conn: Connection, job_id: str, fence: int) -> bool:
    columns = (attempts.c.outcome, attempts.c.error, attempts.c.exit_code, attempts.c.signal)
    found = conn.execute(select(*columns).where(attempts.c.job_id == job_id, attempts.c.fence == fence)).one_or_none()
    if found is None or found.outcome is None:
        return False
    return is_suspicious(AttemptOutcome(found.outcome), found.error, Ending(found.exit_code, found.signal))
