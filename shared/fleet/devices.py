"""Devices for the devices page: worker, usage, running job and last attempt."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, Select, and_, select

from shared.clock import iso
from shared.db.schema import attempts, jobs
from shared.fleet import ledger
from shared.fleet.workers import list_workers
from shared.jobs.finishing import is_finishing

#: Newest attempts searched for the last one of each device; a device without one among them shows none.
RECENT = 500

_OF_JOB = (jobs.c.id, jobs.c.name, jobs.c.kind, jobs.c.dataset, jobs.c.family, jobs.c.framework, jobs.c.owner_id)


def devices(conn: Connection, owner_id: str | None, lease_seconds: float) -> list[dict[str, Any]]:
    """Return `list_workers` with `ledger`, `job` (on its device), `finishing` and `last` (its last ended attempt).

    `finishing` are the jobs that have left the device and are not settled. Of other owners' jobs only state and
    progress are returned; `owner_id` None sees all.
    """
    running: dict[str, dict[str, Any]] = {}
    finishing = defaultdict[str, list[dict[str, Any]]](list)
    for row in conn.execute(_running()).mappings():
        if row["is_finishing"]:
            finishing[row["worker"]].append(_present(row, owner_id))
        else:
            running[row["worker"]] = _present(row, owner_id)
    last: dict[str, Any] = {}
    for row in conn.execute(_ended()).mappings():
        last.setdefault(row["worker"], row)
    held = {one["worker"]: one for one in ledger.list_devices(conn, lease_seconds, owner_id)}
    return [
        worker
        | {
            "ledger": held.get(name := worker["name"]),
            "job": running.get(name),
            "finishing": finishing.get(name, []),
            "last": _past(last[name], owner_id) if name in last else None,
        }
        for worker in list_workers(conn, lease_seconds, owner_id)
    ]


def _running() -> Select[Any]:
    present = and_(attempts.c.job_id == jobs.c.id, attempts.c.fence == jobs.c.fence)
    columns = (jobs.c.worker, jobs.c.state, jobs.c.progress, jobs.c.stop_requested, jobs.c.fence, attempts.c.started_at)
    # `finished_at IS NULL` selects few rows by an index.
    running = (jobs.c.finished_at.is_(None), jobs.c.state == "running")
    has_left = is_finishing().label("is_finishing")
    return select(*_OF_JOB, *columns, has_left).join_from(jobs, attempts, present).where(*running)


def _ended() -> Select[Any]:
    newest = (
        select(attempts).order_by(attempts.c.started_at.desc()).limit(RECENT).subquery()  # by its index
    )
    columns = (newest.c.worker, newest.c.outcome, newest.c.ended_at, newest.c.started_at)
    return (
        select(*_OF_JOB, *columns)
        .join_from(newest, jobs, newest.c.job_id == jobs.c.id)
        .where(newest.c.outcome.is_not(None))
        .order_by(newest.c.ended_at.desc())
    )


def _present(row: Any, owner_id: str | None) -> dict[str, Any]:
    state = {name: row[name] for name in ("state", "progress", "stop_requested")}
    return _named(row, owner_id) | state | {"attempt": row["fence"], "started_at": iso(row["started_at"])}


def _past(row: Any, owner_id: str | None) -> dict[str, Any]:
    times = {name: iso(row[name]) for name in ("started_at", "ended_at")}
    return _named(row, owner_id) | times | {"outcome": row["outcome"]}


def _named(row: Any, owner_id: str | None) -> dict[str, Any]:
    mine = owner_id in (None, row["owner_id"])
    return {name: row[name] if mine else None for name in ("id", "name", "kind", "dataset", "family", "framework")}
