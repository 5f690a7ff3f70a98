"""Connections: durable, immediate writers, typed errors."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

import shared.db.engine as engine_module
from nightshift.errors import ConfigurationError, InvalidRequest
from shared.clock import sqlite_clock
from shared.db.engine import dump_json, make_engine, on_commit, read, read_one, write
from shared.errors import DatabaseLocked, DatabaseUnavailable
from shared.jobs import queries
from tests.support.factories import OWNER, submit_job


def test_sqlite_is_durable_and_checked(sqlite_engine: Engine) -> None:
    with read(sqlite_engine) as conn:
        pragmas = {name: conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in _PRAGMAS}
    assert pragmas == _PRAGMAS


_PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_postgres_frees_the_locks_of_frozen_clients(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    with read(engine) as conn:
        shown = {
            name: conn.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
        }
    engine.dispose()
    assert shown == {
        "idle_in_transaction_session_timeout": "15s",
        "lock_timeout": "10s",
        "statement_timeout": "30s",
    }


def test_only_the_two_databases_are_taken() -> None:
    with pytest.raises(ConfigurationError, match="sqlite"):
        make_engine("mysql://somewhere/else")


@pytest.mark.parametrize(
    "wrong", ["nonsense", "postgresql:user:geheim@host", "postgresql://user:geheim@host:port/name"]
)
def test_what_is_no_url_is_said_without_showing_it(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="not a database URL") as refused:
        make_engine(wrong)
    assert "geheim" not in str(refused.value)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"nightshift\[server\]"):
        make_engine("postgresql://user@host/name")


def test_the_database_tells_the_time_within_a_transaction(engine: Engine) -> None:
    from sqlalchemy import select

    from shared.clock import db_now

    with read(engine) as conn:
        first, second = conn.scalar(select(db_now())), conn.scalar(select(db_now()))
    assert first is not None
    assert second is not None
    assert second > first > 1.7e9


def test_tests_may_shift_the_clock_of_sqlite(sqlite_engine: Engine) -> None:
    with read(sqlite_engine) as conn:
        before = conn.exec_driver_sql("SELECT nightshift_now()").scalar()
        sqlite_clock.offset = 3600
        after = conn.exec_driver_sql("SELECT nightshift_now()").scalar()
    assert float(after or 0) - float(before or 0) > 3599


def test_an_exception_rolls_back_and_calls_nothing(engine: Engine) -> None:
    called: list[str] = []

    def insert_and_fail() -> None:
        with write(engine) as conn:
            conn.execute(text("INSERT INTO model_aliases VALUES ('m', 'champion', 1, 0)"))
            on_commit(conn, lambda: called.append("committed"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        insert_and_fail()
    with read(engine) as conn:
        assert conn.execute(text("SELECT count(*) FROM model_aliases")).scalar() == 0
    assert called == []


def test_calls_come_after_the_commit(engine: Engine) -> None:
    seen: list[int] = []

    def look() -> None:
        with read(engine) as other:
            seen.append(other.execute(text("SELECT count(*) FROM model_aliases")).scalar() or 0)

    with write(engine) as conn:
        conn.execute(text("INSERT INTO model_aliases VALUES ('m', 'champion', 1, 0)"))
        on_commit(conn, look)
        assert seen == []
    assert seen == [1]


@pytest.mark.usefixtures("long_database_timeouts")
def test_eight_writers_that_read_first_never_fail(engine: Engine) -> None:
    """Deferred transactions fail here with SQLITE_BUSY on SQLite, whatever the timeout."""
    job_id = submit_job(engine).job_id
    errors: list[BaseException] = []

    def add() -> None:
        try:
            for _ in range(20):
                with write(engine) as conn:
                    conn.execute(text(_READ), {"id": job_id})
                    conn.execute(text("UPDATE jobs SET retries = retries + 1 WHERE id = :id"), {"id": job_id})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with read(engine) as conn:
        assert conn.execute(text("SELECT retries FROM jobs")).scalar() == 160


_READ = "SELECT retries FROM jobs WHERE id = :id"


def test_a_locked_sqlite_is_unavailable_not_broken(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "SQLITE_BUSY_SECONDS", 0.05)
    impatient = make_engine(str(sqlite_engine.url))
    holder = sqlite3.connect(str(sqlite_engine.url.database), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(DatabaseLocked, match="locked"), write(impatient):
            pass
        with read(impatient) as conn:  # readers do not care
            assert conn.execute(text("SELECT count(*) FROM jobs")).scalar() == 0
    finally:
        holder.close()
        impatient.dispose()


def test_a_missing_server_is_unavailable() -> None:
    engine = make_engine("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable), read(engine):
        pass


def test_terminated_backends_are_unavailable_once_then_fresh_ones_serve(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    killer = make_engine(postgres_url)

    def lose_the_backend() -> None:
        with write(engine) as conn:
            pid = conn.execute(text("SELECT pg_backend_pid()")).scalar()
            with write(killer) as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            conn.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        lose_the_backend()
    with read(engine) as conn:
        assert conn.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()
    killer.dispose()


@pytest.mark.parametrize("text_in_url", ["postgres://u:p@h/d", "postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"])
def test_all_spellings_of_a_postgres_url_use_psycopg(text_in_url: str) -> None:
    url = make_engine(text_in_url).url
    assert (url.drivername, url.host, url.database) == ("postgresql+psycopg", "h", "d")
    assert make_url(text_in_url).password == url.password


@pytest.mark.parametrize("prefix", ["a\0b", "\ud800", "b" * 10_000])
def test_no_text_in_a_query_breaks_the_database(engine: Engine, prefix: str) -> None:
    from nightshift.errors import NotFound

    with read(engine) as conn, pytest.raises((InvalidRequest, NotFound)):
        queries.find_id(conn, prefix, OWNER)


def test_an_integer_of_seventy_bits_is_refused(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    with pytest.raises(InvalidRequest), read(engine) as conn:
        queries.metrics(conn, job_id, after_step=2**70)


def test_json_holds_only_what_json_has() -> None:
    assert json.loads(dump_json({"a": [1.5, float("nan"), {"b": float("inf")}]})) == {"a": [1.5, None, {"b": None}]}


@pytest.mark.parametrize("awkward", ["\0", "\ud800", "‮", "\n", "é" * 1000])
def test_any_text_survives_in_json(engine: Engine, awkward: str) -> None:
    job_id = submit_job(engine, pinned={"text": awkward}).job_id
    with read(engine) as conn:
        assert queries.get_job(conn, job_id, OWNER)["pinned"] == {"text": awkward}


@pytest.fixture
def unmigrated(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    yield engine
    engine.dispose()


def test_a_database_without_tables_is_unavailable(unmigrated: Engine) -> None:
    with pytest.raises(DatabaseUnavailable, match="no such table"), read(unmigrated) as conn:
        conn.execute(text("SELECT count(*) FROM jobs"))


def test_a_statement_that_is_a_transaction_has_the_isolation_of_the_others(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    with read_one(engine) as conn:
        name = conn.engine.url.database
        conn.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"))
    engine.dispose()
    try:
        with read_one(engine) as conn:
            assert conn.execute(text("SHOW transaction_isolation")).scalar() == "read committed"
    finally:
        with read_one(engine) as conn:
            conn.execute(text(f"ALTER DATABASE {name} RESET default_transaction_isolation"))
        engine.dispose()
