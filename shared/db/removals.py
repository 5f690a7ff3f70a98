"""Deletion of objects with millions of rows: first their own row, which hides the rest, then batches of the rest.

The tables in `LEFT` have no foreign key that would delete their rows in the same transaction: on SQLite that would hold
the only write lock for too long, on PostgreSQL exceed the statement timeout. If a process dies in between, the row in
`removals` remains, and the next pass of maintenance continues.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Connection, Table, delete, select, text
from sqlalchemy import insert as plain_insert

from shared.clock import db_now
from shared.db.schema import job_events, job_logs, metrics, removals, schedule_ticks, system_samples, webhook_deliveries

#: Rows per transaction. Too low: more commits with an fsync each. Too high: other writers wait (on SQLite some 20
#: microseconds per row).
BATCH = 2_000


class Kind(StrEnum):
    """Kinds of objects that are deleted in batches."""

    JOB = "job"
    SCHEDULE = "schedule"
    WEBHOOK = "webhook"


#: Tables with remaining rows of each kind, and their column with its id. Foreign keys delete all others: few rows.
LEFT: dict[Kind, tuple[tuple[Table, str], ...]] = {
    Kind.JOB: ((metrics, "job_id"), (job_logs, "job_id"), (job_events, "job_id"), (system_samples, "job_id")),
    Kind.SCHEDULE: ((schedule_ticks, "schedule_id"),),
    Kind.WEBHOOK: ((webhook_deliveries, "webhook_id"),),
}
#: By rowid or ctid, without a second look-up; on PostgreSQL as an array, otherwise it would read the whole table.
_DELETE = {
    "sqlite": "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {column} = :id LIMIT :most)",
    "postgresql": "DELETE FROM {table} WHERE ctid = ANY(ARRAY("
    "SELECT ctid FROM {table} WHERE {column} = :id LIMIT :most))",
}


def note(conn: Connection, kind: Kind, removed_id: str) -> None:
    """Record a removal, in the transaction that deletes the object's own row."""
    conn.execute(plain_insert(removals).values(kind=kind.value, id=removed_id, removed_at=db_now()))


def pending(conn: Connection, limit: int) -> list[tuple[Kind, str]]:
    """Return the oldest removals."""
    oldest = select(removals.c.kind, removals.c.id).order_by(removals.c.removed_at, removals.c.id)
    return [(Kind(row.kind), row.id) for row in conn.execute(oldest.limit(limit))]


def clear(conn: Connection, kind: Kind, removed_id: str, most: int) -> int:
    """Delete up to `most` rows; return how many, 0 if none are left or another process holds the lock."""
    this = (removals.c.kind == kind.value, removals.c.id == removed_id)
    if conn.execute(select(removals.c.id).where(*this).with_for_update(skip_locked=True)).one_or_none() is None:
        return 0
    for table, column in LEFT[kind]:
        statement = _DELETE[conn.dialect.name].format(table=table.name, column=column)
        if deleted := conn.execute(text(statement), {"id": removed_id, "most": most}).rowcount:
            return deleted
    conn.execute(delete(removals).where(*this))
    return 0
