"""Ownership of jobs."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, select, true

from shared.db.schema import jobs

#: Ids per query: SQLite takes 999 parameters everywhere.
IDS = 500


def of_owner(owner_id: str | None) -> ColumnElement[bool]:
    """Return the SQL condition for jobs of an owner; None: of all owners."""
    return jobs.c.owner_id == owner_id if owner_id is not None else true()


def owned_ids(conn: Connection, ids: Iterable[str | None], owner_id: str | None) -> set[str]:
    """Return those of these job ids that belong to the owner; all of them for the owner None."""
    every = sorted({job_id for job_id in ids if job_id is not None})
    if owner_id is None:
        return set(every)
    found: set[str] = set()
    for start in range(0, len(every), IDS):
        some = select(jobs.c.id).where(jobs.c.id.in_(every[start : start + IDS]), of_owner(owner_id))
        found |= set(conn.scalars(some))
    return found
