"""surroundings: everything that decides why a job is where it is, read in one transaction (for `shared.jobs.why`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from shared.clock import db_now
from shared.db.schema import attempts, job_dependencies, job_events, jobs, workers
from shared.jobs.states import JobState
from shared.jobs.transitions.guard import QUEUED
from shared.jobs.why import MAX_TRIES, Surroundings, fits

_parent = jobs.alias("parent")


def surroundings(conn: Connection, job: Mapping[Any, Any], lease_seconds: float) -> Surroundings:
    """`job`: its row (`get_job`). Only what its state makes relevant is read."""
    state = JobState(job["state"])
    now = conn.scalars(select(db_now())).one()
    online = _online(conn, lease_seconds) if state is JobState.QUEUED else []
    return Surroundings(
        now=now,
        lease_seconds=lease_seconds,
        attempts=_attempts(conn, job["id"]),
        workers=online,
        ahead=_ahead(conn, job, [worker for worker in online if fits(job, worker)]),
        awaited=_awaited(conn, job["id"]) if state in (JobState.WAITING, JobState.FAILED) and not job["fence"] else [],
        has_begun=state is JobState.RUNNING and _has_begun(conn, job),
    )


def _attempts(conn: Connection, job_id: str) -> list[Any]:
    newest = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.fence.desc())
    return list(conn.execute(newest.limit(MAX_TRIES + 1)).mappings())


def _online(conn: Connection, lease_seconds: float) -> list[Any]:
    """By name. What a worker holds is said by the jobs themselves: its own heartbeat is seconds old."""
    held = and_(jobs.c.worker == workers.c.name, jobs.c.state == "running", jobs.c.finished_at.is_(None))
    rows = conn.execute(
        select(workers.c.name, workers.c.device, workers.c.frameworks, func.min(jobs.c.id).label("job_id"))
        .select_from(workers.outerjoin(jobs, held))
        .where(workers.c.state == "online", workers.c.heartbeat_at >= db_now() - lease_seconds)
        .group_by(workers.c.name)
        .order_by(workers.c.name)
    ).mappings()
    return list(rows)


def _ahead(conn: Connection, job: Mapping[Any, Any], fitting: list[Any]) -> int:
    """Due jobs of a lower rank that one of its workers can run."""
    if not fitting:
        return 0
    claimable = [
        and_(
            jobs.c.device.in_(("auto", worker["device"])),
            or_(jobs.c.framework.is_(None), jobs.c.framework.in_(sorted(worker["frameworks"]))),
        )
        for worker in {(w["device"], *sorted(w["frameworks"])): w for w in fitting}.values()
    ]
    before = or_(jobs.c.rank < job["rank"], and_(jobs.c.rank == job["rank"], jobs.c.id < job["id"]))
    due = and_(jobs.c.state == QUEUED, jobs.c.run_at <= db_now(), before, or_(*claimable))
    return conn.scalar(select(func.count()).select_from(jobs).where(due)) or 0


def _awaited(conn: Connection, job_id: str) -> list[tuple[str, str | None]]:
    rows = conn.execute(
        select(job_dependencies.c.depends_on, _parent.c.state)
        .outerjoin(_parent, _parent.c.id == job_dependencies.c.depends_on)
        .where(job_dependencies.c.job_id == job_id)
        .order_by(job_dependencies.c.depends_on)
    )
    return [(row.depends_on, row.state) for row in rows]


def _has_begun(conn: Connection, job: Mapping[Any, Any]) -> bool:
    """Its progress was written after its claim: before that it is an earlier attempt's."""
    table = job_events.c
    claim = (table.job_id == job["id"], table.fence == job["fence"], table.type == "state")
    claimed = conn.scalar(select(func.max(table.seq)).where(*claim))
    return claimed is not None and job["progress_seq"] > claimed
