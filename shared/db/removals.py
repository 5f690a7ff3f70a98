"""Deleting what may have millions of rows: its own row goes first, which hides it all; the rest follows in short
transactions.

The tables in `LEFT` have no foreign key that would delete their rows in the same transaction: on SQLite that would hold
the only write lock for as long, on PostgreSQL outlast the longest statement. Whoever dies in between leaves a row of
`removals`, and the next pass of maintenance goes on from there.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Connection, Table, delete, select, text
from sqlalchemy import insert as plain_insert

from shared.clock import db_now
from shared.db.schema import (
    job_events,
    job_logs,
    metrics,
    removals,
    schedule_ticks,
    system_samples,
    webhook_deliveries,
)

#: Rows in one transaction. Too low: a commit, and its fsync, more often. Too high: other writers wait (on SQLite some
#: 20 microseconds a row).
BATCH = 2_000


class Kind(StrEnum):
    JOB = "job"
    SCHEDULE = "schedule"
    WEBHOOK = "webhook"


#: Where rows of each kind may be left, and the column that names it. All else of a kind hangs on foreign keys: few
#: rows.
LEFT: dict[Kind, tuple[tuple[Table, str], ...]] = {
    Kind.JOB: ((metrics, "job_id"), (job_logs, "job_id"), (job_events, "job_id"), (system_samples, "job_id")),
    Kind.SCHEDULE: ((schedule_ticks, "schedule_id"),),
    Kind.WEBHOOK: ((webhook_deliveries, "webhook_id"),),
}
#: By the place of a row, so that nothing is looked up twice; on PostgreSQL an array, else it would read the whole
#: table.
_DELETE = {
    "sqlite": "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {column} = :id LIMIT :most)",
    "postgresql": "DELETE FROM {table} WHERE ctid = ANY(ARRAY("
    "SELECT ctid FROM {table} WHERE {column} = :id LIMIT :most))",
}


def note(conn: Connection, kind: Kind, removed_id: str) -> None:
    """In the transaction that deletes its own row."""
    conn.execute(plain_insert(removals).values(kind=kind.value, id=removed_id, removed_at=db_now()))


def pending(conn: Connection, limit: int) -> list[tuple[Kind, str]]:
    """What has been waiting longest."""
    oldest = select(removals.c.kind, removals.c.id).order_by(removals.c.removed_at, removals.c.id)
    return [(Kind(row.kind), row.id) for row in conn.execute(oldest.limit(limit))]


def clear(conn: Connection, kind: Kind, removed_id: str, most: int) -> int:
    """Delete the next rows, at most so many; 0: there are none any more, or another process is at it."""
    this = (removals.c.kind == kind.value, removals.c.id == removed_id)
    if conn.execute(select(removals.c.id).where(*this).with_for_update(skip_locked=True)).one_or_none() is None:
        return 0
    for table, column in LEFT[kind]:
        statement = _DELETE[conn.dialect.name].format(table=table.name, column=column)
        if gone := conn.execute(text(statement), {"id": removed_id, "most": most}).rowcount:
            return gone
    conn.execute(delete(removals).where(*this))
    return 0
