"""quarantine_unloadable: a checkpoint from which a second attempt could not even begin is given up; the one before is used.

Its hash is right, so nobody else will notice; every further attempt would die of it too.
"""

from __future__ import annotations

import signal

from sqlalchemy import Connection, func, or_, select, update

from shared.db.schema import attempts, checkpoints, jobs
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions.values import Lease

#: Failures to load after which a checkpoint is given up.
FAILURES = 2
#: Endings that loading can cause. SIGKILL is somebody else's doing (or the kernel's, for memory: told apart), and a lost
#: worker says nothing about the checkpoint: a good one must not be given up because of either.
_OWN_FAULT = (
    AttemptOutcome.JOB_ERROR.value,
    AttemptOutcome.CRASHED.value,
    AttemptOutcome.STALLED.value,
)


def quarantine_unloadable(conn: Connection, lease: Lease) -> str | None:
    """Called when an attempt has ended; the caller holds the job's row. Returns the id of the checkpoint given up."""
    newest = conn.execute(
        select(checkpoints.c.id)
        .join(jobs, jobs.c.checkpoint_id == checkpoints.c.id)
        .where(jobs.c.id == lease.job_id, checkpoints.c.state == "ready")
    ).one_or_none()
    if newest is None or _failures_to_load(conn, lease.job_id, newest.id) < FAILURES:
        return None
    conn.execute(update(checkpoints).where(checkpoints.c.id == newest.id).values(state="quarantined"))
    before = (
        select(checkpoints.c.id)
        .where(checkpoints.c.job_id == lease.job_id, checkpoints.c.state == "ready")
        .order_by(checkpoints.c.step.desc(), checkpoints.c.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    conn.execute(update(jobs).where(jobs.c.id == lease.job_id).values(checkpoint_id=before))
    return str(newest.id)


def _failures_to_load(conn: Connection, job_id: str, checkpoint_id: str) -> int:
    """Attempts that were to go on from it and ended by their own fault while they restored their state."""
    table = attempts.c
    failed = (
        table.job_id == job_id,
        table.resumed_from == checkpoint_id,
        table.outcome.in_(_OWN_FAULT),
        or_(table.signal.is_(None), table.signal != signal.SIGKILL.value),
        table.evidence["phase"].as_string() == "restore",
    )
    return conn.scalar(select(func.count()).select_from(attempts).where(*failed)) or 0
