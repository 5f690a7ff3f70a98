"""The page of devices: what its script is told of each worker, and to whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.db.engine import write
from shared.fleet import workers
from shared.fleet.workers import HostUsage, Usage, WorkerInfo
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from tests.support.factories import claim_job, make_claimer, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app

GB = 1_000_000_000


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    with running_flower_app(sqlite_engine, tmp_path) as app:
        yield app


def register(engine: Engine, name: str, usage: Usage | None = None) -> None:
    device, _, host = name.partition("@")
    with write(engine) as conn:
        workers.register(conn, WorkerInfo(name, host, 1, device.rstrip("0123456789"), f"Test {device}"))
        workers.heartbeat(conn, name, usage=usage)


def test_a_device_shows_what_runs_there_and_how_busy_it_is(flower: FlowerApp) -> None:
    register(flower.engine, "gpu0@a", Usage(80 * GB, 20 * GB, 97.0, 61.0, HostUsage(64 * GB, 8 * GB, 12.5)))
    register(flower.engine, "gpu1@a")
    job_id = submit_job(flower.engine, owner_id=flower.owner, name="mine").job_id
    lease = claim_job(flower.engine, make_claimer("gpu0@a", "gpu")).lease
    with write(flower.engine) as conn:
        transitions.record(conn, lease, progress={"percent": 40.0}, metrics=[], logs=[])
    busy, idle = flower.data("/devices/data")["devices"]
    assert (busy["job"]["id"], busy["job"]["name"], busy["job"]["progress"]["percent"]) == (job_id, "mine", 40.0)
    assert (busy["usage"]["memory_used_bytes"], busy["usage"]["host"]["cpu_percent"]) == (20 * GB, 12.5)
    assert (idle["name"], idle["state"], idle["job"], idle["last"]) == ("gpu1@a", "online", None, None)

    with write(flower.engine) as conn:
        transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)
        workers.deregister(conn, "gpu0@a")
    left = flower.data("/devices/data")["devices"][0]
    assert (left["state"], left["usage"], left["job"]) == ("offline", None, None)
    assert (left["last"]["id"], left["last"]["outcome"]) == (job_id, "cancelled")


def test_somebody_elses_job_is_not_named(flower: FlowerApp) -> None:
    register(flower.engine, "cpu0@a")
    submit_job(flower.engine, owner_id="somebody else", name="secret")
    claim_job(flower.engine, make_claimer("cpu0@a"))
    (device,) = flower.data("/devices/data")["devices"]
    assert device["job"]["state"] == "running"
    assert (device["job"]["id"], device["job"]["name"]) == (None, None)
    assert "secret" not in flower.client.get("/nightshift/devices").text


def test_everyone_sees_all_where_it_is_set_so(sqlite_engine: Engine, tmp_path: Path) -> None:
    with running_flower_app(sqlite_engine, tmp_path, flower_shows="everyone") as flower:
        register(flower.engine, "cpu0@a")
        submit_job(flower.engine, owner_id="somebody else", name="open")
        claim_job(flower.engine, make_claimer("cpu0@a"))
        assert flower.data("/devices/data")["devices"][0]["job"]["name"] == "open"


def test_a_stranger_sees_nothing(flower: FlowerApp) -> None:
    for path in ("/nightshift/devices", "/nightshift/devices/data"):
        assert flower.client.get(path, auth=("nightshift", "wrong")).status_code == 401
