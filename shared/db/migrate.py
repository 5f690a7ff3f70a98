"""Bring a database's schema up to date (Alembic; the migrations lie beside this file), or fill it from another."""

from __future__ import annotations

import argparse
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
from shared.settings import Settings, get_settings

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


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="nightshift migrate", description="Bring the schema of NIGHTSHIFT_DATABASE_URL up to date."
    )
    made.add_argument(
        "--from", dest="source", metavar="URL", help="copy everything from this database: a URL, or a data folder"
    )
    made.add_argument("--replace", action="store_true", help="with --from: delete what the target holds")
    made.add_argument("--while-running", action="store_true", help="with --from: copy although workers are alive")
    return made


def main() -> int:
    given = parser().parse_args()
    settings = get_settings()
    if given.source is None:
        upgrade(settings.sql_url)
    else:
        _fill(settings, given)
    print(f"the schema is at {newest_revision()}")
    return 0


def _fill(settings: Settings, given: argparse.Namespace) -> None:
    from shared.db import moving  # which needs this module

    tables = moving.move(
        moving.url_of(given.source),
        settings.sql_url,
        lease_seconds=settings.lease_seconds,
        replace=given.replace,
        while_running=given.while_running,
    )
    for table in tables:
        print(f"{table.rows:>12,}  {table.table}")


if __name__ == "__main__":
    process.run("migrate", main)
