"""Upgrade or downgrade a database's schema (Alembic), or copy another database into it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event, text

from nightshift.errors import ConfigurationError
from shared import entrypoint
from shared.db.engine import make_engine, write
from shared.db.revision import MIGRATIONS, newest_revision, revision_of
from shared.settings import Settings, get_settings

#: Key of the advisory lock that lets one migration run at a time on Postgres ("night" in ASCII).
_LOCK_KEY = 0x6E69676874


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate in one transaction; safe to run from several processes at once. Creates SQLite's folder.

    Raises ConfigurationError for a database that a newer version of Nightshift has migrated.
    """
    try:
        with _migrating(url) as conn:
            command.upgrade(config(conn), revision)
    except CommandError as error:
        raise ConfigurationError(
            f"the database cannot be migrated to {revision} ({error}): a newer version of Nightshift migrated it; "
            "install that version"
        ) from None


def downgrade(url: str, revision: str) -> None:
    """Return to an older schema (`0018`, `-1`, `base`) in one transaction; data that it has no column for is lost.

    Raises ConfigurationError for an unknown revision.
    """
    try:
        with _migrating(url) as conn:
            command.downgrade(config(conn), revision)
    except CommandError as error:
        raise ConfigurationError(f"the database cannot be downgraded to {revision}: {error}") from None


@contextmanager
def _migrating(url: str) -> Iterator[Connection]:
    """Open a transaction that excludes other migrations and checks foreign keys at its end."""
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        if engine.url.database:
            Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _without_foreign_keys)
    try:
        with write(engine) as conn:
            if conn.dialect.name == "postgresql":
                # On a busy machine Alembic may pause longer between two statements than the timeout for requests.
                conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            before = revision_of(conn)
            yield conn
            if revision_of(conn) != before:
                _check_foreign_keys(conn)
    finally:
        engine.dispose()


def _without_foreign_keys(connection: Any, _record: Any) -> None:
    """Disable SQLite's foreign keys, which is not possible inside a transaction.

    To alter a table, Alembic copies it and drops the old one; with foreign keys this would delete all referencing rows.
    """
    connection.execute("PRAGMA foreign_keys=OFF").close()


def _check_foreign_keys(conn: Connection) -> None:
    if conn.dialect.name != "sqlite":
        return
    lost = conn.exec_driver_sql("PRAGMA foreign_key_check").first()
    if lost is not None:
        table, row, parent, _ = lost
        raise ConfigurationError(
            f"the database was not changed: table {table}, row {row}, refers to a missing row of {parent}. "
            "Restore a backup, or delete that row"
        )


def config(conn: Connection) -> Config:
    """Return Alembic's configuration for an open transaction."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    made.attributes["connection"] = conn
    return made


def parser() -> argparse.ArgumentParser:
    """Return the parser of `nightshift migrate`."""
    made = argparse.ArgumentParser(
        prog="nightshift migrate", description="Bring the schema of NIGHTSHIFT_DATABASE_URL up to date."
    )
    made.add_argument(
        "--from", dest="source", metavar="URL", help="copy everything from this database: a URL, or a data folder"
    )
    made.add_argument("--replace", action="store_true", help="with --from: first delete everything in the target")
    made.add_argument("--while-running", action="store_true", help="with --from: copy even if workers are running")
    made.add_argument(
        "--down-to", metavar="REVISION", help="return to an older schema (0018), before installing an older version"
    )
    made.add_argument("--recount", action="store_true", help="count jobs, attempts and deliveries anew")
    return made


def main() -> int:
    """Run `nightshift migrate`."""
    given = parser().parse_args()
    settings = get_settings()
    if given.down_to is not None:
        downgrade(settings.sql_url, given.down_to)
        print(f"the schema is at {given.down_to}")
        return 0
    if given.source is None:
        upgrade(settings.sql_url)
    else:
        _fill(settings, given)
    if given.recount:
        _recount(settings.sql_url)
    print(f"the schema is at {newest_revision()}")
    return 0


def _recount(url: str) -> None:
    from shared.db import counters  # circular import

    engine = make_engine(url)
    try:
        with write(engine) as conn:
            counters.recount(conn)
    finally:
        engine.dispose()


def _fill(settings: Settings, given: argparse.Namespace) -> None:
    from shared.db import transfer  # circular import

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
