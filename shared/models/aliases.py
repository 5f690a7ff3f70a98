"""Moves of aliases and deletion of versions, each in one transaction with its audit log entry."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select, text
from sqlalchemy import insert as plain_insert

from nightshift.errors import Conflict, NotFound
from nightshift.names import TRAIN
from shared.clock import db_now, iso
from shared.db.engine import insert, on_commit
from shared.db.rows import existing
from shared.db.schema import jobs, model_aliases, model_changes, model_versions
from shared.events import emit
from shared.jobs.queries import cursors
from shared.jobs.queries.cursors import Page
from shared.models import ownership
from shared.webhooks import outbox

SYSTEM = "system"


def lock(conn: Connection, name: str) -> None:
    """Lock the model name until the transaction ends; SQLite has a single writer anyway."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"model:{name}"})


def lock_for(conn: Connection, name: str, who: str) -> None:
    """Lock the model name for a change requested by `who`. Raises Forbidden for another owner."""
    lock(conn, name)
    ownership.require(conn, name, None if who == SYSTEM or who.startswith("job:") else who)


def current(conn: Connection, name: str, alias: str) -> int | None:
    """Return the version that an alias points at, or None."""
    return conn.scalar(
        select(model_aliases.c.version).where(model_aliases.c.name == name, model_aliases.c.alias == alias)
    )


def set_alias(
    conn: Connection, name: str, alias: str, version: int, *, who: str = SYSTEM, why: str | None = None
) -> int | None:
    """Point an alias at a version; return the one it pointed at before. No change leaves no audit log entry.

    Raises Forbidden; NotFound for an unknown version.
    """
    lock_for(conn, name, who)
    require_version(conn, name, version)
    before = current(conn, name, alias)
    if before != version:
        _move(conn, name, alias, version)
        audit(conn, name, "set", alias=alias, from_version=before, to_version=version, who=who, why=why)
    return before


def require_version(conn: Connection, name: str, version: int) -> ColumnElement[bool]:
    """Return the SQL condition for a version. Raises NotFound if it does not exist."""
    this = and_(model_versions.c.name == name, model_versions.c.version == version)
    existing(conn.scalar(select(model_versions.c.version).where(this)), "model version", f"{name}@{version}")
    return this


def rollback(conn: Connection, name: str, alias: str, *, who: str = SYSTEM, why: str | None = None) -> tuple[int, int]:
    """Move an alias back to its previous version; repeated calls go further back. Returns (from, to).

    Deleted versions are skipped. Raises Forbidden, NotFound (no such alias), Conflict (no previous version).
    """
    lock_for(conn, name, who)
    before = current(conn, name, alias)
    if before is None:
        raise NotFound.of("alias", f"{name}@{alias}")
    existing = set(conn.scalars(select(model_versions.c.version).where(model_versions.c.name == name)))
    earlier = [version for version in _trail(conn, name, alias)[:-1] if version in existing and version != before]
    if not earlier:
        raise Conflict(f"{name}@{alias} points at {before}, and no earlier version it pointed at still exists.")
    _move(conn, name, alias, earlier[-1])
    audit(conn, name, "rollback", alias=alias, from_version=before, to_version=earlier[-1], who=who, why=why)
    return before, earlier[-1]


def _trail(conn: Connection, name: str, alias: str) -> list[int]:
    """Return the versions that led to the current one: a move adds one, a rollback removes those after its target."""
    changes = conn.execute(
        select(model_changes.c.change, model_changes.c.to_version)
        .where(model_changes.c.name == name, model_changes.c.alias == alias)
        .order_by(model_changes.c.id)
    )
    trail: list[int] = []
    for change, version in changes:
        if change == "rollback":
            while trail and trail[-1] != version:
                trail.pop()
        else:
            trail.append(version)
    return trail


def delete_version(conn: Connection, name: str, version: int, *, who: str = SYSTEM, why: str | None = None) -> None:
    """Delete a version. Its number is not reused; the job that made it keeps its files.

    Raises Forbidden; NotFound; Conflict while an alias or an unfinished job uses it.
    """
    lock_for(conn, name, who)
    this = require_version(conn, name, version)
    holders = [*_aliases_of(conn, name, version), *_jobs_with(conn, name, version)]
    if holders:
        raise Conflict(f"{name}@{version} cannot be deleted: it is used by {', '.join(holders[:5])}.")
    conn.execute(delete(model_versions).where(this))
    audit(conn, name, "delete", from_version=version, who=who, why=why)


def _aliases_of(conn: Connection, name: str, version: int) -> list[str]:
    mine = and_(model_aliases.c.name == name, model_aliases.c.version == version)
    return [f"the alias {alias!r}" for alias in conn.scalars(select(model_aliases.c.alias).where(mine))]


def _jobs_with(conn: Connection, name: str, version: int) -> list[str]:
    """Return the unfinished jobs that read this version; a job that names an alias counts once it has started."""
    unfinished = conn.execute(
        select(jobs.c.id, jobs.c.spec, jobs.c.pinned).where(jobs.c.finished_at.is_(None), jobs.c.kind != TRAIN)
    )
    return [f"job {row.id}" for row in unfinished if _reads(row.spec, row.pinned, name, version)]


def _reads(spec: dict[str, Any], pinned: dict[str, Any], name: str, version: int) -> bool:
    parent = pinned.get("parent") or {}
    return spec.get("model_ref") == f"{name}@{version}" or (parent.get("name"), parent.get("version")) == (
        name,
        version,
    )


def _move(conn: Connection, name: str, alias: str, version: int) -> None:
    row = {"name": name, "alias": alias, "version": version, "updated_at": db_now()}
    changed = {"version": version, "updated_at": db_now()}
    statement = insert(conn, model_aliases).values(**row)
    conn.execute(statement.on_conflict_do_update(index_elements=["name", "alias"], set_=changed))


def audit(conn: Connection, name: str, change: str, **facts: Any) -> None:
    """Write an entry of the audit log, with deliveries to the webhooks that subscribe to it."""
    line = plain_insert(model_changes).values(name=name, change=change, at=db_now(), **facts)
    at = conn.execute(line.returning(model_changes.c.at)).scalar_one()
    outbox.add_model_change(conn, name, change, at, facts)
    on_commit(conn, partial(emit, "model.changed", name=name, change=change, **facts))


def history(conn: Connection, name: str, cursor: str | None = None, limit: int = 50) -> Page:
    """Return a page of the audit log, newest first. Raises NotFound; MalformedRequest for a bad cursor."""
    statement = select(model_changes).where(model_changes.c.name == name).order_by(model_changes.c.id.desc())
    if cursor is not None:
        (before,) = cursors.decode("changes", cursor, int)
        statement = statement.where(model_changes.c.id < before)
    rows = conn.execute(statement.limit(limit + 1)).mappings().all()
    if not rows and cursor is None and not is_known(conn, name):
        raise NotFound.of("model", name)
    return cursors.page("changes", rows, limit, ("id",), _change_view)


def is_known(conn: Connection, name: str) -> bool:
    """Return whether the model has a version."""
    known = select(model_versions.c.name).where(model_versions.c.name == name).limit(1)
    return conn.scalar(known) is not None


_SHOWN_AS_IS = ("change", "alias", "from_version", "to_version", "who", "why")


def _change_view(row: Any) -> dict[str, Any]:
    return {**{column: row[column] for column in _SHOWN_AS_IS}, "at": iso(row["at"])}
