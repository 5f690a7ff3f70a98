"""events_after: all events of a job, merged by sequence number.

Numbers are assigned under the job's row lock, so their order is commit order: a reader that has seen number n never
sees a smaller new one later. Only the latest progress is kept, under the number of its last write.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, select

from shared.clock import db_now, iso
from shared.db.schema import job_events, job_logs, jobs, metrics

#: Type of an event row -> type in the stream, where both kinds of change are a `state`.
_SHOWN_AS = {"stop_requested": "state", "attempt": "state"}


def events_after(
    conn: Connection, job_id: str, seq: int = 0, limit: int = 500, types: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Return up to `limit` events after `seq`: [{seq, type, at, data}]; fewer than `limit` if there are no more yet.

    Types are state, progress, metric, checkpoint, artifact, promotion, edited, log; `types` selects some of them.
    """
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
