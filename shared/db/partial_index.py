"""Indexes of few rows of a large table."""

from __future__ import annotations

from sqlalchemy import Index, text


def partial_index(name: str, *columns: str, where: str, sqlite: str | None = None, unique: bool = False) -> Index:
    """Return an index of the rows that match `where`; `sqlite` is the condition in SQLite if it is another."""
    return Index(name, *columns, unique=unique, sqlite_where=text(sqlite or where), postgresql_where=text(where))
