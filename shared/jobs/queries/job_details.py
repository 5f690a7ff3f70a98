"""Details of one job: attempts, checkpoints, artifacts, logs, state events. Callers check the owner (`get_job`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from nightshift.errors import NotFound
from shared.clock import iso
from shared.db import schema


def attempts(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the attempts, newest first; `attempt` is the fence."""
    table = schema.attempts
    rows = conn.execute(select(table).where(table.c.job_id == job_id).order_by(table.c.fence.desc()))
    return [_view(row) for row in rows]


def system_samples(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the resource usage of its runners, oldest first; at most some thousand rows."""
    table = schema.system_samples
    rows = conn.execute(select(table).where(table.c.job_id == job_id).order_by(table.c.fence, table.c.at))
    return [_view(row) for row in rows]


def checkpoints(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the checkpoints, newest first, including quarantined but not deleted ones."""
    table = schema.checkpoints
    rows = conn.execute(
        select(table)
        .where(table.c.job_id == job_id, table.c.state != "deleted")
        .order_by(table.c.step.desc(), table.c.created_at.desc())
    )
    return [_view(row) for row in rows]


def artifacts(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the artifacts, sorted by path."""
    table = schema.artifacts
    rows = conn.execute(select(table).where(table.c.job_id == job_id).order_by(table.c.path))
    return [_view(row) for row in rows]


def artifact(conn: Connection, job_id: str, path: str) -> dict[str, Any]:
    """Return one artifact, with `stored_as` relative to the storage root. Raises NotFound."""
    table = schema.artifacts
    row = conn.execute(select(table).where(table.c.job_id == job_id, table.c.path == path)).one_or_none()
    if row is None:
        raise NotFound.of("artifact", path)
    return _view(row)


def logs(conn: Connection, job_id: str, after_seq: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
    """Return log lines in order, after `after_seq`."""
    table = schema.job_logs
    rows = conn.execute(
        select(table).where(table.c.job_id == job_id, table.c.seq > after_seq).order_by(table.c.seq).limit(limit)
    )
    return [_view(row) for row in rows]


def log_tail(conn: Connection, job_id: str, limit: int, before_seq: int | None = None) -> list[dict[str, Any]]:
    """Return the last log lines (before `before_seq`), in order."""
    table = schema.job_logs
    conditions = [table.c.job_id == job_id] + ([table.c.seq < before_seq] if before_seq is not None else [])
    rows = conn.execute(select(table).where(*conditions).order_by(table.c.seq.desc()).limit(limit)).all()
    return [_view(row) for row in reversed(rows)]


def state_events(conn: Connection, job_id: str, limit: int = 500) -> list[dict[str, Any]]:
    """Return the latest `limit` changes of its state: [{seq, at, attempt, data}], oldest first."""
    table = schema.job_events
    rows = conn.execute(
        select(table.c.job_id, table.c.seq, table.c.at, table.c.fence, table.c.data)
        .where(table.c.job_id == job_id, table.c.type == "state")
        .order_by(table.c.seq.desc())
        .limit(limit)
    ).all()
    return [_view(row) for row in reversed(rows)]


_TIMES = ("at", "created_at", "started_at", "ended_at")


def _view(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    view = dict(row._mapping)
    view.pop("job_id")
    view["attempt"] = view.pop("fence")
    return {name: iso(value) if name in _TIMES else value for name, value in view.items()}
