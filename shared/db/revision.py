"""The revision of a database's schema, read without Alembic, which only migrations need."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from shared.db.engine import read

MIGRATIONS = Path(__file__).parent / "migrations"


def is_current(engine: Engine) -> bool:
    """Return whether the schema is the one this version expects. Raises DatabaseUnavailable."""
    with read(engine) as conn:
        return revision_of(conn) == newest_revision()


def revision_of(conn: Connection) -> str | None:
    """Return the revision of a database; None for one that was never migrated."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    revision: str | None = conn.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


@lru_cache
def newest_revision() -> str:
    """Return the newest revision of this version. The names of migrations begin with their number."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
