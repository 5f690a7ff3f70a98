"""Transitions caused by other jobs and by time: ended dependencies and passed deadlines."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, exists, or_, select, update

from nightshift.states import FINAL_STATES, JobState
from shared.clock import db_now
from shared.db.engine import on_commit
from shared.db.schema import job_dependencies, jobs
from shared.events import emit
from shared.jobs.fronts import QUEUED
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions.statements import RUNNING, UNFINISHED, WRITTEN, add_state_event, close_attempt

_TIMED_OUT = {
    "type": "timed_out",
    "message": "timeout_seconds have passed since its first start; raise timeout_seconds or make the job smaller",
    "retryable": False,
}
_DEPENDENCY_FAILED = {
    "type": "dependency_failed",
    "message": "a job that it waits for did not succeed",
    "retryable": False,
}
_parent = jobs.alias("parent")


def resolve_dependencies(conn: Connection, job_id: str | None = None) -> dict[str, int]:
    """Move waiting jobs (or only this one) to queued or failed when their dependencies have ended.

    Queued when all succeeded, failed when one failed, was cancelled or was deleted. Returns the number of each.
    """
    failed = _move(
        conn, job_id, JobState.FAILED, _has_parent(_parent.c.id.is_(None), _parent.c.state.in_(_UNSUCCESSFUL))
    )
    queued = _move(conn, job_id, JobState.QUEUED, ~_has_parent(_parent.c.id.is_(None), _parent.c.state != "succeeded"))
    return {"queued": queued, "failed": failed}


_UNSUCCESSFUL = sorted(state.value for state in FINAL_STATES - {JobState.SUCCEEDED})


def _has_parent(*any_of: Any) -> Any:
    """Return the SQL condition that a dependency matches `any_of` (`id IS NULL`: the dependency was deleted)."""
    parents = job_dependencies.outerjoin(_parent, _parent.c.id == job_dependencies.c.depends_on)
    return exists(
        select(job_dependencies.c.job_id)
        .select_from(parents)
        .where(job_dependencies.c.job_id == jobs.c.id, or_(*any_of))
        .correlate(jobs)
    )


def _move(conn: Connection, job_id: str | None, target: JobState, condition: Any) -> int:
    values: dict[str, Any] = {"state": target.value, "event_seq": jobs.c.event_seq + 1}
    if target is JobState.FAILED:
        values |= {"error": _DEPENDENCY_FAILED, "finished_at": db_now()}
    picked = select(jobs.c.id).where(jobs.c.state == "waiting", UNFINISHED, condition).order_by(jobs.c.id)
    if job_id is not None:
        picked = picked.where(jobs.c.id == job_id)
    mine = picked.with_for_update(skip_locked=True).scalar_subquery()  # two dispatchers never wait for each other
    statement = update(jobs).where(jobs.c.id.in_(mine), jobs.c.state == "waiting").values(**values)
    rows = conn.execute(statement.returning(*WRITTEN)).all()
    for row in rows:
        error = _name_failed_dependency(conn, row.id) if target is JobState.FAILED else None
        add_state_event(conn, row, error=error)
        on_commit(conn, partial(emit, f"job.{target.value}", job_id=row.id))
    return len(rows)


def _name_failed_dependency(conn: Connection, job_id: str) -> dict[str, Any]:
    """Write the first unsuccessful dependency and its outcome into the job's error; return the error."""
    parents = job_dependencies.outerjoin(_parent, _parent.c.id == job_dependencies.c.depends_on)
    failed = conn.execute(
        select(job_dependencies.c.depends_on, _parent.c.state, _parent.c.part_of, _parent.c.pinned, _parent.c.error)
        .select_from(parents)
        .where(job_dependencies.c.job_id == job_id, or_(_parent.c.id.is_(None), _parent.c.state.in_(_UNSUCCESSFUL)))
        .order_by(_parent.c.finished_at, job_dependencies.c.depends_on)
    ).first()
    if failed is None:
        return _DEPENDENCY_FAILED
    what = {"failed": "failed", "cancelled": "was cancelled"}.get(failed.state, "is gone")
    if failed.part_of == job_id:
        error = _of_shard(failed, what)
    else:
        message = f"job {failed.depends_on}, which it waits for, {what}; fix that job and submit both again"
        error = {**_DEPENDENCY_FAILED, "message": message}
    conn.execute(update(jobs).where(jobs.c.id == job_id).values(error=error))
    return error


def _of_shard(shard: Any, what: str) -> dict[str, Any]:
    """Return the error of a job whose shard did not succeed: that of the shard, with its place."""
    error = shard.error or _DEPENDENCY_FAILED
    why = f": {shard.error['message']}" if shard.error else ""
    place = f"shard {shard.pinned['shard'] + 1} of {shard.pinned['shards']}"
    return {**error, "message": f"{place} (job {shard.depends_on}) {what}{why}"}


def expire_deadlines(conn: Connection, grace_seconds: float = 30.0, limit: int = 200) -> list[str]:
    """Fail queued jobs past their deadline, and running ones whose supervisor has not done so within the grace.

    A supervisor enforces the deadline itself; if it does not, its next write raises LeaseLost. A waiting job has a
    deadline once one of its shards has begun. Returns the ids.
    """
    late = or_(
        and_(jobs.c.state.in_([QUEUED, JobState.WAITING.value]), jobs.c.deadline_at < db_now()),
        and_(jobs.c.state == RUNNING, jobs.c.deadline_at < db_now() - grace_seconds),
    )
    picked = (
        select(jobs.c.id)
        .where(UNFINISHED, jobs.c.deadline_at < db_now(), late)
        .order_by(jobs.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(jobs)
        .where(jobs.c.id.in_(picked.scalar_subquery()), late)
        .values(
            state="failed", error=_TIMED_OUT, finished_at=db_now(), event_seq=jobs.c.event_seq + 1, lease_until=None
        )
        .returning(*WRITTEN)
    )
    rows = conn.execute(statement).all()
    for row in rows:
        close_attempt(conn, row.id, row.fence, AttemptOutcome.TIMED_OUT, error=_TIMED_OUT)
        add_state_event(conn, row, error=_TIMED_OUT)
        on_commit(conn, partial(emit, "job.failed", job_id=row.id, attempt=row.fence, error_type="timed_out"))
    return [row.id for row in rows]
