"""Bring a database's schema up to date (Alembic; the migrations lie beside this file), or fill it from another."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, event, text

from nightshift.errors import ConfigurationError
from shared import entrypoint
from shared.db.engine import make_engine, read, write
from shared.settings import Settings, get_settings

MIGRATIONS = Path(__file__).parent / "migrations"
#: Key of the advisory lock that lets one migration run at a time on Postgres ("night" in ASCII).
_LOCK_KEY = 0x6E69676874


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate, in one transaction; safe to run from several processes at once. Makes SQLite's folder.

    Raises ConfigurationError for a database that a newer version of this code has migrated.
    """
    try:
        with _migrating(url) as conn:
            command.upgrade(config(conn), revision)
    except CommandError as error:
        raise ConfigurationError(
            f"the database cannot be brought to {revision} ({error}): it was migrated by a newer version; install that"
        ) from None


def downgrade(url: str, revision: str) -> None:
    """Back to the schema of an older version (`0018`, `-1`, `base`), in one transaction. What that schema has no place
    for is lost. Raises ConfigurationError for a revision that is not known here."""
    try:
        with _migrating(url) as conn:
            command.downgrade(config(conn), revision)
    except CommandError as error:
        raise ConfigurationError(f"the database cannot be brought down to {revision}: {error}") from None


@contextmanager
def _migrating(url: str) -> Iterator[Connection]:
    """A transaction that no other migration runs beside, whose foreign keys hold at its end."""
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        if engine.url.database:
            Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _without_foreign_keys)
    try:
        with write(engine) as conn:
            if conn.dialect.name == "postgresql":
                # On a busy machine Alembic may take longer between two statements than a request may.
                conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            before = _revision(conn)
            yield conn
            if _revision(conn) != before:
                _check_foreign_keys(conn)
    finally:
        engine.dispose()


def _without_foreign_keys(connection: Any, _record: Any) -> None:
    """SQLite cannot alter every table: Alembic moves the rows to a new one and drops the old one, which with foreign
    keys on deletes all that points at it. They cannot be switched off inside a transaction."""
    connection.execute("PRAGMA foreign_keys=OFF").close()


def _check_foreign_keys(conn: Connection) -> None:
    if conn.dialect.name != "sqlite":
        return
    lost = conn.exec_driver_sql("PRAGMA foreign_key_check").first()
    if lost is not None:
        table, row, parent, _ = lost
        raise ConfigurationError(
            f"the database was left as it was: table {table}, row {row}, names a row that {parent} does not have. "
            "Restore a backup, or delete that row"
        )


def _revision(conn: Connection) -> str | None:
    return MigrationContext.configure(conn).get_current_revision()


def is_current(engine: Engine) -> bool:
    """Whether the schema is what this code expects. Raises DatabaseUnavailable."""
    with read(engine) as conn:
        return _revision(conn) == newest_revision()


@lru_cache
def newest_revision() -> str | None:
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def config(conn: Connection) -> Config:
    """Alembic's, for an open transaction."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    made.attributes["connection"] = conn
    return made


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="nightshift migrate", description="Bring the schema of NIGHTSHIFT_DATABASE_URL up to date."
    )
    made.add_argument(
        "--from", dest="source", metavar="URL", help="copy everything from this database: a URL, or a data folder"
    )
    made.add_argument("--replace", action="store_true", help="with --from: delete what the target holds")
    made.add_argument("--while-running", action="store_true", help="with --from: copy although workers are alive")
    made.add_argument(
        "--down-to", metavar="REVISION", help="back to an older schema (0018), to install the version that has it"
    )
    return made


def main() -> int:
    given = parser().parse_args()
    settings = get_settings()
    if given.down_to is not None:
        downgrade(settings.sql_url, given.down_to)
        print(f"the schema is back at {given.down_to}")
        return 0
    if given.source is None:
        upgrade(settings.sql_url)
    else:
        _fill(settings, given)
    print(f"the schema is at {newest_revision()}")
    return 0


def _fill(settings: Settings, given: argparse.Namespace) -> None:
    from shared.db import transfer  # which needs this module

    tables = transfer.transfer(
        transfer.url_of(given.source),
        settings.sql_url,
        lease_seconds=settings.lease_seconds,
        replace=given.replace,
        while_running=given.while_running,
    )
    for table in tables:
        print(f"{table.rows:>12,}  {table.table}")


if __name__ == "__main__":
    entrypoint.run("migrate", main)
