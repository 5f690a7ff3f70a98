"""Details of one job: attempts, checkpoints, artifacts, logs, state events. Callers check the owner (`get_job`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, select

from shared.clock import iso
from shared.db import schema
from shared.db.rows import existing
from shared.job_files.checkpoint_record import CheckpointRecord


def attempts(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the attempts, newest first; `attempt` is the fence."""
    table = schema.attempts
    return _views(conn, select(table).where(table.c.job_id == job_id).order_by(table.c.fence.desc()))


def system_samples(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the resource usage of its runners, oldest first; at most some thousand rows."""
    table = schema.system_samples
    return _views(conn, select(table).where(table.c.job_id == job_id).order_by(table.c.fence, table.c.at))


def checkpoints(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the checkpoints, newest first, including quarantined but not deleted ones."""
    table = schema.checkpoints
    kept = select(table).where(table.c.job_id == job_id, table.c.state != "deleted")
    return _views(conn, kept.order_by(table.c.step.desc(), table.c.created_at.desc()))


def shard_parts(conn: Connection, job_id: str) -> tuple[dict[str, list[CheckpointRecord]], bool]:
    """Return the intact parts that the shards of a job left, by shard in order, and whether one is damaged."""
    table, shards = schema.checkpoints, schema.jobs
    columns = (table.c[name] for name in CheckpointRecord.model_fields)
    rows = conn.execute(
        select(table.c.job_id, table.c.state, *columns)
        .join(shards, shards.c.id == table.c.job_id)
        .where(shards.c.part_of == job_id, table.c.state != "deleted")
        .order_by(table.c.step)
    ).mappings()
    found: dict[str, list[CheckpointRecord]] = {}
    damaged = False
    for row in rows:
        facts = dict(row)
        shard_id, state = facts.pop("job_id"), facts.pop("state")
        damaged = damaged or state != "ready"
        if state == "ready":
            found.setdefault(shard_id, []).append(CheckpointRecord(**facts))
    return found, damaged


def artifacts(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the artifacts, sorted by path."""
    table = schema.artifacts
    return _views(conn, select(table).where(table.c.job_id == job_id).order_by(table.c.path))


def artifact(conn: Connection, job_id: str, path: str) -> dict[str, Any]:
    """Return one artifact, with `stored_as` relative to the storage root. Raises NotFound."""
    table = schema.artifacts
    found = _views(conn, select(table).where(table.c.job_id == job_id, table.c.path == path))
    return existing(next(iter(found), None), "artifact", path)


def logs(conn: Connection, job_id: str, after_seq: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
    """Return log lines in order, after `after_seq`."""
    table = schema.job_logs
    later = select(table).where(table.c.job_id == job_id, table.c.seq > after_seq)
    return _views(conn, later.order_by(table.c.seq).limit(limit))


def log_tail(conn: Connection, job_id: str, limit: int, before_seq: int | None = None) -> list[dict[str, Any]]:
    """Return the last log lines (before `before_seq`), in order."""
    table = schema.job_logs
    conditions = [table.c.job_id == job_id] + ([table.c.seq < before_seq] if before_seq is not None else [])
    return _views(conn, select(table).where(*conditions).order_by(table.c.seq.desc()).limit(limit))[::-1]


def state_events(conn: Connection, job_id: str, limit: int = 500) -> list[dict[str, Any]]:
    """Return the latest `limit` changes of its state: [{seq, at, attempt, data}], oldest first."""
    table = schema.job_events
    columns = (table.c.job_id, table.c.seq, table.c.at, table.c.fence, table.c.data)
    changes = select(*columns).where(table.c.job_id == job_id, table.c.type == "state")
    return _views(conn, changes.order_by(table.c.seq.desc()).limit(limit))[::-1]


_TIMES = ("at", "created_at", "started_at", "ended_at")


def _views(conn: Connection, statement: Select[Any]) -> list[dict[str, Any]]:
    return [_view(row) for row in conn.execute(statement)]


def _view(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    view = dict(row._mapping)
    view.pop("job_id")
    view["attempt"] = view.pop("fence")
    return {name: iso(value) if name in _TIMES else value for name, value in view.items()}
