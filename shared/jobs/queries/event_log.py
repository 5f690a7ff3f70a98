"""events_after: everything a job emitted, merged by its sequence number.

Numbers are drawn under the job's row lock, so their order is commit order: a reader that has seen number n never meets
a smaller new one later. Progress is kept as the latest only, under the number it was last written with.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, select

from shared.clock import db_now, iso
from shared.db.schema import job_events, job_logs, jobs, metrics

#: What the stream calls an event row; whatever changes how a job stands is a `state` to a watcher.
_SHOWN_AS = {"stop_requested": "state", "attempt": "state"}


def events_after(
    conn: Connection, job_id: str, seq: int = 0, limit: int = 500, types: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """At most `limit` events beyond `seq`: [{seq, type, at, data}], type in state, progress, metric, checkpoint,
    artifact, promotion, edited, log; only those in `types` where that is given. Fewer than `limit` means there is
    nothing more yet."""
    merged = _events(conn, job_id, seq, limit, types)
    if types is None or "metric" in types:
        merged += _metrics(conn, job_id, seq, limit)
    if types is None or "log" in types:
        merged += _logs(conn, job_id, seq, limit)
    if types is None or "progress" in types:
        merged += _progress(conn, job_id, seq)
    return sorted(merged, key=lambda event: event["seq"])[:limit]


def _event(seq: int, kind: str, at: float, data: dict[str, Any]) -> dict[str, Any]:
    return {"seq": seq, "type": kind, "at": iso(at), "data": data}


def _events(conn: Connection, job_id: str, seq: int, limit: int, types: Collection[str] | None) -> list[dict[str, Any]]:
    table = job_events
    conditions = [table.c.job_id == job_id, table.c.seq > seq]
    if types is not None:
        conditions.append(table.c.type.in_([*types, *(row for row, shown in _SHOWN_AS.items() if shown in types)]))
    rows = conn.execute(
        select(table.c.seq, table.c.type, table.c.at, table.c.data)
        .where(*conditions)
        .order_by(table.c.seq)
        .limit(limit)
    )
    return [_event(row.seq, _SHOWN_AS.get(row.type, row.type), row.at, row.data) for row in rows]


def _metrics(conn: Connection, job_id: str, seq: int, limit: int) -> list[dict[str, Any]]:
    columns = metrics.c
    rows = conn.execute(
        select(columns.seq, columns.at, columns.name, columns.step, columns.epoch, columns.value)
        .where(columns.job_id == job_id, columns.seq > seq)
        .order_by(columns.seq)
        .limit(limit)
    )
    return [
        _event(row.seq, "metric", row.at, {"name": row.name, "step": row.step, "epoch": row.epoch, "value": row.value})
        for row in rows
    ]


def _logs(conn: Connection, job_id: str, seq: int, limit: int) -> list[dict[str, Any]]:
    columns = job_logs.c
    rows = conn.execute(
        select(columns.seq, columns.at, columns.fence, columns.level, columns.message)
        .where(columns.job_id == job_id, columns.seq > seq)
        .order_by(columns.seq)
        .limit(limit)
    )
    return [
        _event(row.seq, "log", row.at, {"attempt": row.fence, "level": row.level, "message": row.message})
        for row in rows
    ]


def _progress(conn: Connection, job_id: str, seq: int) -> list[dict[str, Any]]:
    row = conn.execute(
        select(jobs.c.progress, jobs.c.progress_seq, jobs.c.fence, db_now().label("now")).where(
            jobs.c.id == job_id, jobs.c.progress_seq > seq
        )
    ).one_or_none()
    if row is None or row.progress is None:
        return []
    return [_event(row.progress_seq, "progress", row.now, {"attempt": row.fence, **row.progress})]
