"""Bring a database's schema up to date (Alembic; the migrations lie beside this file)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from shared import process
from shared.db.engine import make_engine, read, write
from shared.errors import ConfigurationError
from shared.settings import get_settings

_MIGRATIONS = Path(__file__).parent / "migrations"
#: Key of the advisory lock that lets one migration run at a time on Postgres ("night" in ASCII).
_LOCK_KEY = 0x6E69676874


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate, in one transaction; safe to run from several processes at once. Makes SQLite's folder.

    Raises ConfigurationError for a database that a newer version of this code has migrated.
    """
    engine = make_engine(url)
    if engine.url.database and engine.dialect.name == "sqlite":
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    try:
        with write(engine) as conn:
            if conn.dialect.name == "postgresql":
                conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            command.upgrade(_config(conn), revision)
    except CommandError as error:
        raise ConfigurationError(
            f"the database cannot be brought to {revision} ({error}): it was migrated by a newer version; install that"
        ) from None
    finally:
        engine.dispose()


def is_current(engine: Engine) -> bool:
    """Whether the schema is what this code expects. Raises DatabaseUnavailable."""
    with read(engine) as conn:
        return MigrationContext.configure(conn).get_current_revision() == newest_revision()


@lru_cache
def newest_revision() -> str | None:
    return ScriptDirectory(str(_MIGRATIONS)).get_current_head()


def _config(conn: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = conn
    return config


def main() -> int:
    settings = get_settings()
    upgrade(settings.sql_url)
    print(f"the schema is at {newest_revision()}")
    return 0


if __name__ == "__main__":
    process.run("migrate", main)
