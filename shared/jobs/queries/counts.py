"""How many: due jobs per device for the dispatcher, everything for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, func, select

from shared.clock import db_now
from shared.db.schema import attempts, jobs, workers
from shared.jobs.states import JobState
from shared.jobs.transitions.guard import QUEUED, RUNNING, UNFINISHED


def waiting_counts(conn: Connection) -> dict[str, int]:
    """Due queued jobs per device asked for: {"auto": …, "cpu": …, "gpu": …}."""
    rows = conn.execute(
        select(jobs.c.device, func.count())
        .where(jobs.c.state == QUEUED, jobs.c.run_at <= db_now())
        .group_by(jobs.c.device)
    )
    return {"auto": 0, "cpu": 0, "gpu": 0} | _pairs(rows)


def due_ids(conn: Connection, device: str, limit: int) -> list[str]:
    """The due jobs that ask for `device`, the next to be claimed first."""
    rows = conn.scalars(
        select(jobs.c.id)
        .where(jobs.c.state == QUEUED, jobs.c.run_at <= db_now(), jobs.c.device == device)
        .order_by(jobs.c.rank, jobs.c.id)
        .limit(limit)
    )
    return list(rows)


def stats(conn: Connection, lease_seconds: float = 30.0) -> dict[str, Any]:
    """{jobs: {state: n}, attempts: {outcome: n}, workers: {state: n}, due: {device: n},
    oldest_due: {device: seconds}, expired_leases: n}."""
    states = dict.fromkeys((state.value for state in JobState), 0)
    states |= _pairs(conn.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)))
    outcomes = conn.execute(
        select(attempts.c.outcome, func.count()).where(attempts.c.outcome.is_not(None)).group_by(attempts.c.outcome)
    )
    heard = workers.c.heartbeat_at >= db_now() - lease_seconds
    online = conn.execute(
        select(workers.c.state, func.count()).where(workers.c.state != "offline", heard).group_by(workers.c.state)
    )
    oldest = conn.execute(
        select(jobs.c.device, db_now() - func.min(jobs.c.run_at))
        .where(jobs.c.state == QUEUED, jobs.c.run_at <= db_now())
        .group_by(jobs.c.device)
    )
    expired = conn.scalar(
        select(func.count()).select_from(jobs).where(jobs.c.state == RUNNING, UNFINISHED, jobs.c.lease_until < db_now())
    )
    return {
        "jobs": states,
        "attempts": _pairs(outcomes),
        "workers": {"online": 0, "draining": 0} | _pairs(online),
        "due": waiting_counts(conn),
        "oldest_due": {"auto": 0.0, "cpu": 0.0, "gpu": 0.0} | _pairs(oldest),
        "expired_leases": expired or 0,
    }


def _pairs(rows: Iterable[Any]) -> dict[str, Any]:
    return {row[0]: row[1] for row in rows}
