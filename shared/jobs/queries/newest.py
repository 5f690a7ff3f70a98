"""newest_ids: the newest jobs in some states, by one search of an index for each state of each owner.

One search for all of them would read every newer job in another state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, select, union_all

from shared.db.counters import JOBS, counted, kept_for
from shared.db.schema import counters, jobs

#: Searches in one statement; SQLite takes 500 and 999 parameters.
_TOGETHER = 50


def newest_ids(
    conn: Connection, owner_id: str | None, states: Sequence[str], conditions: Sequence[ColumnElement[bool]], limit: int
) -> list[str]:
    """Return the ids of jobs that are not archived, newest first. `owner_id` None: of all owners."""
    of_states = and_(kept_for(owner_id), counters.c.label.in_(states))
    parts = counted(conn, JOBS, "owner_id", "label", where=of_states)
    found: list[Any] = []
    for start in range(0, len(parts), _TOGETHER):
        some = parts[start : start + _TOGETHER]
        found += conn.execute(union_all(*(_first(row.owner_id, row.label, conditions, limit) for row in some))).all()
    return [job_id for _, job_id in sorted((tuple(row) for row in found), reverse=True)[:limit]]


def _first(owner_id: str, state: str, conditions: Sequence[ColumnElement[bool]], limit: int) -> Select[Any]:
    within = (jobs.c.owner_id == owner_id, jobs.c.state == state, jobs.c.archived_at.is_(None))
    newest = select(jobs.c.created_at, jobs.c.id).where(*within, *conditions)
    few = newest.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit).subquery()
    return select(few.c.created_at, few.c.id)
