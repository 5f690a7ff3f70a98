"""Which worker can run which job: the conditions of a claim, in Python and in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from shared.clock import db_now
from shared.db.schema import jobs, workers
from shared.fleet.workers import NOT_LISTENING

Row = Mapping[Any, Any]


def can_run(job: Row, worker: Row) -> bool:
    """Return whether the worker has the job's device and framework."""
    device, framework = job["device"], job["framework"]
    return device in ("auto", worker["device"]) and (framework is None or framework in worker["frameworks"])


def runnable_on(device: str, frameworks: Iterable[str]) -> ColumnElement[bool]:
    """Return the SQL condition for jobs that a worker with this device and these frameworks can run."""
    known = or_(jobs.c.framework.is_(None), jobs.c.framework.in_(sorted(frameworks)))
    return and_(jobs.c.device.in_(("auto", device)), known)


def ahead_of(job: Row) -> ColumnElement[bool]:
    """Return the SQL condition for due jobs that a claim takes before this one (by `rank`, then id)."""
    before = or_(jobs.c.rank < job["rank"], and_(jobs.c.rank == job["rank"], jobs.c.id < job["id"]))
    return and_(jobs.c.state == "queued", jobs.c.run_at <= db_now(), before)


def online_workers(conn: Connection, lease_seconds: float) -> list[Row]:
    """Return workers with a recent heartbeat, by name: name, device, frameworks, state, job_id, owner_id.

    The held job and its owner are read from `jobs`, because a worker's own heartbeat is seconds old.
    """
    held = and_(jobs.c.worker == workers.c.name, jobs.c.state == "running", jobs.c.finished_at.is_(None))
    columns = (workers.c.name, workers.c.device, workers.c.frameworks, workers.c.state)
    job = (func.min(jobs.c.id).label("job_id"), func.min(jobs.c.owner_id).label("owner_id"))
    rows = conn.execute(
        select(*columns, *job)
        .select_from(workers.outerjoin(jobs, held))
        .where(workers.c.state.in_(("online", NOT_LISTENING)), workers.c.heartbeat_at >= db_now() - lease_seconds)
        .group_by(workers.c.name)
        .order_by(workers.c.name)
    )
    return list(rows.mappings())
