"""explain_context: the facts that explain a job's state, read in one transaction (for `shared.jobs.explain`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, or_, select

from nightshift.states import JobState
from shared.clock import read_clock
from shared.db.schema import attempts, job_dependencies, job_events, jobs
from shared.jobs.eligibility import (
    can_run,
    distinct,
    has_device,
    left_workers,
    online_workers,
    plugins_of,
    runnable_by,
)
from shared.jobs.explain import MAX_TRIES, MOST_AHEAD, ExplainContext, explain
from shared.jobs.fronts import base_of, needs_of, runnable_parts
from shared.jobs.queue_parts import count_ahead, parts_with_needs

_parent = jobs.alias("parent")


def explain_context(conn: Connection, job: Mapping[Any, Any], lease_seconds: float) -> ExplainContext:
    """Return the facts for a job's row (`get_job`); only those relevant to its state are read."""
    state = JobState(job["state"])
    now = read_clock(conn)
    online = online_workers(conn, lease_seconds) if state is JobState.QUEUED else []
    return ExplainContext(
        now=now,
        lease_seconds=lease_seconds,
        attempts=_attempts(conn, job["id"]),
        workers=online,
        left=left_workers(conn, lease_seconds) if state is JobState.QUEUED else [],
        ahead=_ahead(conn, job, [worker for worker in online if can_run(job, worker)]),
        victim=_victim(conn, job["id"]) if state is JobState.QUEUED and job["preempts"] else None,
        has_begun=state is JobState.RUNNING and _has_begun(conn, job),
        **_waited_for(conn, job, state, lease_seconds),
    )


def _waited_for(conn: Connection, job: Mapping[Any, Any], state: JobState, lease_seconds: float) -> dict[str, Any]:
    """Return the jobs and shards that a job waits for, or that failed before it began."""
    if state is JobState.WAITING:
        return {"awaited": _awaited(conn, job["id"])} | _of_shards(conn, job["id"], lease_seconds)
    return {"awaited": _awaited(conn, job["id"])} if state is JobState.FAILED and not job["fence"] else {}


def _of_shards(conn: Connection, job_id: str, lease_seconds: float) -> dict[str, Any]:
    """Return its shards, and why the first queued one is queued; what they wait for, if none is ready."""
    found = list(conn.execute(select(jobs).where(jobs.c.part_of == job_id)).mappings())
    shards = sorted(found, key=lambda row: row["pinned"]["shard"])
    if shards and all(row["state"] == JobState.WAITING for row in shards):
        return {"awaited": _awaited(conn, shards[0]["id"])}
    queued = next((row for row in shards if row["state"] == JobState.QUEUED), None)
    why = explain(queued, explain_context(conn, queued, lease_seconds)).sentence if queued else None
    return {"shards": shards, "queued_shard": why}


def _attempts(conn: Connection, job_id: str) -> list[Any]:
    newest = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.fence.desc())
    return list(conn.execute(newest.limit(MAX_TRIES + 1)).mappings())


def _ahead(conn: Connection, job: Mapping[Any, Any], fitting: list[Any]) -> int:
    """Count the due jobs ahead of it that one of its workers can run, up to MOST_AHEAD."""
    if not fitting:
        return 0
    kinds = distinct(fitting)
    needing = parts_with_needs(conn)
    parts: set[str] = set()
    for worker in kinds:
        plain = runnable_parts(worker["device"], worker["frameworks"], plugins_of(worker), worker["takes_auto"])
        parts |= {*plain, *(part for part in needing if base_of(part) in plain and has_device(_needs(part), worker))}
    return count_ahead(conn, job, sorted(parts), or_(*map(runnable_by, kinds)), MOST_AHEAD)


def _needs(part: str) -> dict[str, str | None]:
    return {"needs": needs_of(part).text}


def _victim(conn: Connection, job_id: str) -> str | None:
    """Return the running job that is being preempted for it."""
    return conn.scalar(select(jobs.c.id).where(jobs.c.makes_room_for == job_id, jobs.c.state == "running"))


def _awaited(conn: Connection, job_id: str) -> list[tuple[str, str | None]]:
    rows = conn.execute(
        select(job_dependencies.c.depends_on, _parent.c.state)
        .outerjoin(_parent, _parent.c.id == job_dependencies.c.depends_on)
        .where(job_dependencies.c.job_id == job_id)
        .order_by(job_dependencies.c.depends_on)
    )
    return [(row.depends_on, row.state) for row in rows]


def _has_begun(conn: Connection, job: Mapping[Any, Any]) -> bool:
    """Return whether its progress was written after its claim; older progress is of an earlier attempt."""
    table = job_events.c
    claim = (table.job_id == job["id"], table.fence == job["fence"], table.type == "state")
    claimed = conn.scalar(select(func.max(table.seq)).where(*claim))
    return claimed is not None and job["progress_seq"] > claimed
