"""Ownership of models: the first to register a version of a name owns the name, even after all versions are deleted."""

from __future__ import annotations

from sqlalchemy import Connection, select

from nightshift.errors import InvalidRequest
from shared import ownership
from shared.clock import db_now
from shared.db.engine import insert
from shared.db.schema import models

NOUN = "model"


def owner_of(conn: Connection, name: str) -> str | None:
    """Return the owner of a model; None if it has none or does not exist."""
    return conn.scalar(select(models.c.owner_id).where(models.c.name == name))


def require(conn: Connection, name: str, asking: str | None) -> None:
    """Raise Forbidden if the model has another owner. `asking` None: Nightshift itself."""
    ownership.require(NOUN, name, owner_of(conn, name), asking)


def claim(conn: Connection, name: str, asking: str) -> None:
    """Make `asking` the owner of a new name; the primary key decides races. Raises Forbidden if it is taken."""
    row = {"name": name, "owner_id": asking, "created_at": db_now()}
    conn.execute(insert(conn, models).values(**row).on_conflict_do_nothing())
    require(conn, name, asking)


def refuse_register_as(conn: Connection, name: str | None, asking: str) -> None:
    """Raise InvalidRequest for a job that would register a version of another owner's model."""
    if name is not None and not ownership.may_change(owner_of(conn, name), asking):
        raise InvalidRequest.field(("register_as",), ownership.refusal(NOUN, name))
