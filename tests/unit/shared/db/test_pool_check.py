"""Connections of the pool to PostgreSQL are asked before their use only where they may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from shared.db import pool_check
from shared.db.engine import make_engine, read
from tests.support.databases import terminate_sessions


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    engine = make_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the connections that are asked whether they live."""
    found: list[Any] = []
    ping = engine.dialect.do_ping

    def do_ping(connection: Any) -> bool:
        found.append(connection)
        return ping(connection)

    monkeypatch.setattr(engine.dialect, "do_ping", do_ping)
    return found


def session(engine: Engine) -> int:
    with read(engine) as conn:
        return session_of(conn)


def two_sessions(engine: Engine) -> set[int]:
    with read(engine) as one, read(engine) as other:
        return {session_of(one), session_of(other)}


def session_of(conn: Connection) -> int:
    return int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_in_steady_use_is_not_asked(
    engine: Engine, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_check, "IDLE_SECONDS", float("inf"))
    assert len({session(engine) for _ in range(5)}) == 1
    assert asked == []


def test_a_connection_that_was_idle_for_long_is_asked(
    engine: Engine, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_check, "IDLE_SECONDS", -1.0)
    first = session(engine)
    assert asked == [], "it was new"
    assert session(engine) == first
    assert len(asked) == 1


def test_a_connection_that_the_server_ended_is_replaced_before_its_use(
    engine: Engine, asked: list[Any], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_check, "IDLE_SECONDS", float("inf"))
    before = session(engine)
    terminate_sessions(postgres_url)
    assert session(engine) != before
    assert len(asked) == 1


def test_all_connections_are_replaced_once_one_does_not_answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_check, "IDLE_SECONDS", -1.0)
    before = two_sessions(engine)

    def do_ping(connection: Any) -> bool:
        raise connection.OperationalError("no route to host")

    with monkeypatch.context() as away:
        away.setattr(engine.dialect, "do_ping", do_ping)
        assert session(engine) not in before
    assert not two_sessions(engine) & before
