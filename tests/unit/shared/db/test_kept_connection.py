"""A kept connection serves the single statements of a block, and goes back before the thread takes another."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, QueuePool, select, text

from shared.db import kept_connection
from shared.db.engine import read, read_one, write
from shared.db.schema import jobs
from shared.errors import DatabaseUnavailable
from tests.support.databases import terminate_sessions


def taken(engine: Engine) -> int:
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedout()


def test_a_block_uses_one_connection_and_gives_it_back(engine: Engine) -> None:
    with kept_connection.keep(engine):
        with read_one(engine) as first:
            first.execute(select(jobs.c.id))
        assert taken(engine) == 1
        with read_one(engine) as second:
            second.execute(select(jobs.c.id))
        assert second is first
    assert taken(engine) == 0


def test_a_transaction_gets_its_own_after_the_kept_one_went_back(engine: Engine) -> None:
    with kept_connection.keep(engine):
        for opened in (read, write):
            with read_one(engine) as conn:
                conn.execute(select(jobs.c.id))
            with opened(engine) as other:
                other.execute(select(jobs.c.id))
                assert taken(engine) == 1


def test_a_connection_in_use_is_neither_shared_nor_given_back(engine: Engine) -> None:
    with kept_connection.keep(engine), read_one(engine) as first:
        with read_one(engine) as second, read(engine) as third:
            assert len({first, second, third}) == 3
        assert first.execute(text("SELECT 1")).scalar() == 1


def test_a_transaction_after_a_kept_connection_is_one(postgres_engine: Engine) -> None:
    with kept_connection.keep(postgres_engine):
        with read_one(postgres_engine) as conn:
            conn.execute(select(jobs.c.id))
        with write(postgres_engine) as conn:
            assert not conn.connection.driver_connection.autocommit  # type: ignore[union-attr]


def test_after_a_lost_connection_the_next_statement_has_a_new_one(postgres_engine: Engine, postgres_url: str) -> None:
    with kept_connection.keep(postgres_engine):
        with read_one(postgres_engine) as conn:
            conn.execute(text("SELECT 1"))
        terminate_sessions(postgres_url)
        with pytest.raises(DatabaseUnavailable), read_one(postgres_engine) as conn:
            conn.execute(text("SELECT 1"))
    with kept_connection.keep(postgres_engine), read_one(postgres_engine) as conn:
        assert conn.execute(text("SELECT 1")).scalar() == 1
    assert taken(postgres_engine) == 0
