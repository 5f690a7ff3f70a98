"""A real Flower over a real Redis and SQLite: who may enter, and what it shows of an attempt."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from shared.db.engine import write
from shared.fleet import keys
from shared.jobs import transitions
from shared.jobs.transitions import Claimer, NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support import warm
from tests.support.redis import free_port
from tests.support.stack import CAP
from tests.support.up import eventually

TASK = "11111111-2222-3333-4444-555555555555"
SPEC = {
    "kind": "train",
    "name": "night <b>run</b>",
    "model": {"family": "cnn", "preset": "mnist-3conv"},
    "dataset": "digits",
}


@dataclass
class Flower:
    client: httpx.Client
    process: warm.WarmProcess
    engine: Engine
    key_id: str


@pytest.fixture
def flower(sqlite_engine: Engine, sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[Flower]:
    port = free_port()
    with write(sqlite_engine) as conn:
        principal, key = keys.create(conn, "test", "me")
    environment = os.environ | {
        "NIGHTSHIFT_DATABASE_URL": sqlite_url,
        "NIGHTSHIFT_REDIS_URL": redis_url,
        "NIGHTSHIFT_DATA_DIR": str(tmp_path / "data"),
        "NIGHTSHIFT_FLOWER_PORT": str(port),
    }
    process = warm.start("api.flower.app", [], environment, tmp_path / "flower.log")
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("nightshift", key), timeout=CAP)
    try:
        eventually(lambda: answers(client))
        yield Flower(client, process, sqlite_engine, principal.key_id)
    finally:
        client.close()
        process.kill()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthcheck").status_code == 200
    except httpx.TransportError:
        return False


def rows(flower: Flower) -> list[dict[str, str]]:
    """What the table of tasks asks for."""
    query = {"draw": 1, "start": 0, "length": 10, "order[0][column]": 0, "columns[0][data]": "received"}
    return list(flower.client.get("/tasks/datatable", params=query).json()["data"])


def claim(engine: Engine) -> transitions.Lease:
    with write(engine) as conn:
        transitions.submit(conn, NewJob(owner_id="me", spec=job_spec_adapter.validate_python(SPEC)))
        claimed = transitions.claim(conn, Claimer("cpu0@here", "cpu", "cpu", frozenset({"torch"}), TASK), 30)
    assert claimed is not None
    return claimed.lease


def test_a_key_opens_flower_and_a_revoked_one_does_not(flower: Flower) -> None:
    pages = ["/workers", "/tasks", "/api/workers", "/metrics", "/api/tasks"]
    assert [flower.client.get(page).status_code for page in pages] == [200] * len(pages)
    for auth in (None, ("nightshift", "wrong"), ("other", "wrong"), ("nightshift", "\x00clé")):
        with httpx.Client(base_url=flower.client.base_url, auth=auth, timeout=CAP) as stranger:
            assert [stranger.get(page).status_code for page in pages] == [401] * len(pages)
            assert stranger.post(f"/api/task/revoke/{TASK}", params={"terminate": "true"}).status_code == 401
    with write(flower.engine) as conn:
        keys.revoke(conn, flower.key_id)
    eventually(lambda: flower.client.get("/workers").status_code == 401)


def test_a_task_shows_the_job_its_work_and_its_progress(flower: Flower) -> None:
    lease = claim(flower.engine)
    with write(flower.engine) as conn:
        transitions.record(conn, lease, progress={"step": 5, "percent": 41.7, "loss": 0.25}, metrics=[], logs=[])

    (row,) = eventually(lambda: [row for row in rows(flower) if row["result"] == "42% · loss 0.25"])
    assert row["args"] == f"night <b>run</b> · {lease.job_id[:8]} #1"
    assert row["kwargs"] == "train cnn/mnist-3conv (torch) on digits"
    page = flower.client.get(f"/task/{TASK}").text
    assert "night &lt;b&gt;run&lt;/b&gt;" in page
    assert lease.job_id in page
    table = flower.client.get("/tasks").text
    assert [label in table for label in (">Job<", ">Work<", ">Progress<")] == [True] * 3


def test_sigterm_ends_it_cleanly(flower: Flower) -> None:
    flower.process.send_signal(signal.SIGTERM)
    assert flower.process.wait(CAP) == 0


def test_an_open_api_is_refused_at_start(tmp_path: Path) -> None:
    environment = os.environ | {"FLOWER_UNAUTHENTICATED_API": "1", "NIGHTSHIFT_DATA_DIR": str(tmp_path)}
    refused = warm.run("api.flower.app", environment=environment)
    assert refused.returncode == 1
    assert "nightshift flower: FLOWER_UNAUTHENTICATED_API" in refused.stderr  # in a line of JSON
