"""The API dies, and its database goes away: a 202 is always a job, and what is no 202 can be sent again."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, func, select, text

from shared.db import engine as databases
from shared.db.engine import make_engine, read, write
from shared.db.schema import jobs
from shared.fleet import keys
from tests.support.api import TRAIN, assert_problem, running_api
from tests.support.factories import OWNER
from tests.support.serving import api_process
from tests.support.stack import CAP


def _submit(url: str, key: str, idempotency_key: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": idempotency_key}
    return httpx.post(f"{url}/v1/jobs", json=TRAIN, headers=headers, timeout=CAP)


def _ids(engine: Engine) -> list[str]:
    with read(engine) as conn:
        return list(conn.scalars(select(jobs.c.id)))


@pytest.mark.parametrize(("point", "written"), [("submit.before_commit", 0), ("submit.after_commit", 1)])
def test_killed_at_a_submit_point_and_sent_again_it_is_one_job(
    database_url: str, tmp_path: Path, point: str, written: int
) -> None:
    engine = make_engine(database_url)
    with write(engine) as conn:
        _, key = keys.create(conn, "test", OWNER)
    with api_process(database_url, tmp_path, NIGHTSHIFT_FAILPOINT=f"{point}:kill") as (process, url):
        with pytest.raises(httpx.TransportError):
            _submit(url, key, "nightly")
        assert process.wait(CAP) == -9
    assert len(_ids(engine)) == written

    with api_process(database_url, tmp_path) as (_, url):
        again = [_submit(url, key, "nightly") for _ in range(2)]
    assert [answer.status_code for answer in again] == [202, 202]
    assert [answer.json()["created"] for answer in again] == [written == 0, False]
    assert _ids(engine) == [again[0].json()["id"]]
    engine.dispose()


def test_a_database_held_by_another_writer_is_503_and_nothing_is_written(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "SQLITE_BUSY_SECONDS", 0.1)
    engine = make_engine(sqlite_url)
    with running_api(engine, tmp_path) as api:
        assert api.submit("before").status_code == 202
        holder = sqlite3.connect(engine.url.database or "", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        problem = assert_problem(api.submit("meanwhile"), 503)
        assert "database" in problem["detail"]
        assert len(api.get("/v1/jobs").json()["items"]) == 1  # who only reads does not notice
        holder.execute("ROLLBACK")
        holder.close()
        assert api.submit("meanwhile").json()["created"]
    engine.dispose()


def test_requests_succeed_soon_after_postgres_drops_every_connection(postgres_url: str, tmp_path: Path) -> None:
    engine = make_engine(postgres_url)
    with running_api(engine, tmp_path) as api:
        accepted = [api.submit().json()["id"]]
        for _ in range(3):
            _drop_connections(postgres_url)
            answer: Any = api.submit()
            assert answer.status_code in (202, 503), answer.text
            accepted += [answer.json()["id"]] if answer.status_code == 202 else []
        assert api.submit().status_code == 202
        with read(engine) as conn:
            found = conn.scalar(select(func.count()).select_from(jobs).where(jobs.c.id.in_(accepted)))
        assert found == len(accepted)
    engine.dispose()


def _drop_connections(url: str) -> None:
    other = make_engine(url)
    with write(other) as conn:
        conn.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()
