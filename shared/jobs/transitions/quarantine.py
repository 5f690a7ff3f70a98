"""Quarantine of a checkpoint that is intact but cannot be loaded, after two attempts that failed while loading it."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

from sqlalchemy import Connection, select, update

from shared.db.engine import on_commit
from shared.db.schema import attempts, checkpoints, job_events, jobs
from shared.errors import DeviceFailed, DiskFull
from shared.events import emit
from shared.jobs.states import CRASH_OUTCOMES, AttemptOutcome
from shared.jobs.transitions.values import Ending, Lease

#: Outcomes that loading a checkpoint may have caused; a lost worker or a stop request has other reasons.
SUSPICIOUS = CRASH_OUTCOMES - {AttemptOutcome.LOST} | {AttemptOutcome.JOB_ERROR}


def is_suspicious(outcome: AttemptOutcome, error: dict[str, Any] | None, ending: Ending) -> bool:
    """Return whether loading a checkpoint may have caused this ending.

    A device that failed and a full disk have reasons of their own. An unexplained SIGKILL (the supervisor's and the
    out-of-memory killer's are other outcomes or have an error type) came from outside, as did the end of a whole
    forkserver. Such deaths count as crashes of the job, but not against a checkpoint.
    """
    if outcome not in SUSPICIOUS or (error or {}).get("type") in (DeviceFailed.type, DiskFull.type):
        return False
    unexplained = outcome is AttemptOutcome.CRASHED and (error or {}).get("type") == AttemptOutcome.CRASHED.value
    from_outside = ending.exit_code is None and ending.signal in (None, signal.SIGKILL)
    return not (unexplained and from_outside)


def quarantine(conn: Connection, lease: Lease, outcome: AttemptOutcome, error: dict[str, Any], ending: Ending) -> bool:
    """Quarantine the newest checkpoint if this and the previous attempt both died before they had loaded it.

    The next attempt resumes from the checkpoint before it, or starts from the beginning. Returns whether it was done.
    """
    pair = (lease.fence - 1, lease.fence)
    if not is_suspicious(outcome, error, ending) or began(conn, lease.job_id, pair):
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
    newest, older = found[0], found[1:]
    conn.execute(update(checkpoints).where(checkpoints.c.id == newest.id).values(state="quarantined"))
    previous = older[0].id if older else None
    conn.execute(update(jobs).where(jobs.c.id == lease.job_id).values(checkpoint_id=previous))
    on_commit(conn, partial(emit, "checkpoint.quarantined", job_id=lease.job_id, checkpoints=[newest.id]))
    return True


def began(conn: Connection, job_id: str, fences: tuple[int, ...]) -> bool:
    """Return whether one of the attempts had loaded its state (`begin` writes this event)."""
    mine = (job_events.c.job_id == job_id, job_events.c.type == "attempt", job_events.c.fence.in_(fences))
    return conn.execute(select(job_events.c.seq).where(*mine).limit(1)).one_or_none() is not None


def _was_suspicious(conn: Connection, job_id: str, fence: int) -> bool:
    columns = (attempts.c.outcome, attempts.c.error, attempts.c.exit_code, attempts.c.signal)
    found = conn.execute(select(*columns).where(attempts.c.job_id == job_id, attempts.c.fence == fence)).one_or_none()
    if found is None or found.outcome is None:
        return False
    return is_suspicious(AttemptOutcome(found.outcome), found.error, Ending(found.exit_code, found.signal))
