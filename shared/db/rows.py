"""Rows that a request names: the one that was found, and tables in which an owner's names are unique."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, or_, select, update
from sqlalchemy.exc import IntegrityError

from nightshift.errors import Conflict, NotFound
from shared.clock import db_now
from shared.db.engine import insert

T = TypeVar("T")


def existing(row: T | None, noun: str, name: str) -> T:
    """Return the row that a query found. Raises NotFound if it is None."""
    if row is None:
        raise NotFound.of(noun, name)
    return row


@dataclass(frozen=True)
class NamedRows:
    """A table with `id`, `owner_id` and a `name` that is unique among the owner's; `noun` is for messages."""

    table: Table
    noun: str

    def create(self, conn: Connection, values: dict[str, Any]) -> str:
        """Insert a row and return its id. Raises Conflict if the owner has one of this name."""
        statement = (
            insert(conn, self.table).values(**values).on_conflict_do_nothing(index_elements=["owner_id", "name"])
        )
        created = conn.execute(statement.returning(self.table.c.id)).scalar_one_or_none()
        if created is None:
            raise self._taken(values["name"])
        return str(created)

    def change(self, conn: Connection, row: Row[*tuple[Any, ...]], values: dict[str, Any]) -> None:
        """Change a locked row. Raises Conflict if the owner has another one of the new name."""
        try:
            conn.execute(update(self.table).where(self.table.c.id == row.id).values(**values))
        except IntegrityError:
            raise self._taken(values.get("name", row.name)) from None

    def lock(self, conn: Connection, row_id: str, owner_id: str) -> Row[*tuple[Any, ...]]:
        """Lock a row and return it, with the time as `now`. Raises NotFound, also for another owner's."""
        mine = (self.table.c.id == row_id, self.table.c.owner_id == owner_id)
        statement = select(self.table, db_now().label("now")).where(*mine).with_for_update()
        return existing(conn.execute(statement).one_or_none(), self.noun, row_id)

    def find_id(self, conn: Connection, reference: str, owned: ColumnElement[bool]) -> str:
        """Return the id of the row of this id or name, of those that `owned` matches. Raises NotFound."""
        columns = self.table.c
        named = select(columns.id).where(owned, or_(columns.id == reference, columns.name == reference))
        found = conn.scalars(named.order_by(columns.id != reference)).first()
        return str(existing(found, self.noun, reference))

    def _taken(self, name: str) -> Conflict:
        return Conflict(f"{self.noun.capitalize()} {name!r} already exists; change it or choose another name.")
