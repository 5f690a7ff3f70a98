"""The page of devices: what its script is told of each worker, and to whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import attempts
from shared.fleet import workers
from shared.fleet.workers import HostUsage, Usage, WorkerInfo
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import Lease
from tests.support.factories import claim_job, make_claimer, register_device, submit_job
from tests.support.flower_app import FlowerApp, running_flower_app

GB = 1_000_000_000


@pytest.fixture
def flower(sqlite_engine: Engine, tmp_path: Path) -> Iterator[FlowerApp]:
    # A long lease: however slow the machine, a worker that sent one heartbeat is online.
    with running_flower_app(sqlite_engine, tmp_path, lease_seconds=600) as app:
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


def test_a_job_that_has_left_its_device_is_shown_beside_the_next_one(flower: FlowerApp) -> None:
    register(flower.engine, "gpu0@a")
    first, second = (begun(flower, phase) for phase in ("finishing", "train"))
    [device] = flower.data("/devices/data")["devices"]
    assert device["job"]["id"] == second.job_id
    assert [job["id"] for job in device["finishing"]] == [first.job_id]
    with read(flower.engine) as conn:
        [worker] = workers.list_workers(conn, 600, flower.owner)
        [of_others] = workers.list_workers(conn, 600, "somebody else")
    assert (worker["finishing_job_ids"], of_others["finishing_job_ids"]) == ([first.job_id], [])
    with write(flower.engine) as conn:
        transitions.release(conn, first, outcome=AttemptOutcome.DRAINED)
    claim_job(flower.engine, make_claimer("gpu0@a", "gpu"))
    [device] = flower.data("/devices/data")["devices"]
    assert device["finishing"] == [], "its next attempt has reported nothing so far"


def begun(flower: FlowerApp, phase: str) -> Lease:
    """Start a job that reports a phase."""
    submit_job(flower.engine, owner_id=flower.owner)
    lease = claim_job(flower.engine, make_claimer("gpu0@a", "gpu")).lease
    with write(flower.engine) as conn:
        transitions.record(conn, lease, progress={"step": 1, "phase": phase})
    return lease


def test_attempts_that_overlap_count_once_as_busy(flower: FlowerApp) -> None:
    register(flower.engine, "cpu0@a")
    job_id = submit_job(flower.engine, owner_id=flower.owner).job_id
    ran(flower.engine, job_id, 1, "cpu0@a", (1800, 1000), "succeeded")
    ran(flower.engine, job_id, 2, "cpu0@a", (1600, 1400), "succeeded")
    ran(flower.engine, job_id, 3, "cpu0@a", (1200, 800), "succeeded")
    lane = flower.data("/devices/history", window="hour")["history"]["devices"]["cpu0@a"]
    assert lane["busy_seconds"] == pytest.approx(1000, abs=1)


def test_a_device_that_was_left_shows_why(flower: FlowerApp) -> None:
    register(flower.engine, "gpu0@a")
    register(flower.engine, "gpu1@a")
    with write(flower.engine) as conn:
        workers.describe(conn, "gpu0@a", [], {"torch": "GPU is lost"})
        workers.heartbeat(conn, "gpu0@a", left_because="GPU is lost")
    left, works = flower.data("/devices/data")["devices"]
    assert (left["state"], left["left_because"], left["unusable"]) == (
        "device_failed", "GPU is lost", {"torch": "GPU is lost"},
    )  # fmt: skip
    assert (works["state"], works["left_because"], works["unusable"]) == ("online", None, {})


def test_a_worker_without_room_on_its_disk_shows_why(flower: FlowerApp) -> None:
    register(flower.engine, "cpu0@a")
    with write(flower.engine) as conn:
        workers.heartbeat(conn, "cpu0@a", disk_full="2.0 MB are free")
    (device,) = flower.data("/devices/data")["devices"]
    assert (device["state"], device["left_because"]) == ("disk_full", "2.0 MB are free")


def test_another_owners_job_is_not_named(flower: FlowerApp) -> None:
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


def ran(engine: Engine, job_id: str, fence: int, worker: str, ago: tuple[float, float | None], outcome: str) -> None:
    """An attempt of the past: it began and ended so many seconds ago."""
    with write(engine) as conn:
        now = conn.scalars(select(db_now())).one()
        end = None if ago[1] is None else now - ago[1]
        times = {"started_at": now - ago[0], "ended_at": end}
        row = {"job_id": job_id, "fence": fence, "worker": worker, "device": "cpu", "outcome": outcome}
        conn.execute(attempts.insert().values(**row, **times))


def test_the_history_has_what_ran_in_the_window_and_how_busy_that_made_a_device(flower: FlowerApp) -> None:
    register(flower.engine, "cpu0@a")
    register(flower.engine, "cpu1@a")
    mine = submit_job(flower.engine, owner_id=flower.owner, name="mine").job_id
    theirs = submit_job(flower.engine, owner_id="somebody else", name="secret").job_id
    ran(flower.engine, mine, 1, "cpu0@a", (5400, 1800), "succeeded")  # half of it before the window
    ran(flower.engine, theirs, 1, "cpu0@a", (900, 450), "job_error")
    ran(flower.engine, mine, 2, "gone@b", (90_000, 80_000), "succeeded")
    history = flower.data("/devices/history", window="hour")["history"]
    assert list(history["devices"]) == ["cpu0@a", "cpu1@a"], "what ran longer ago is another window's"
    lane = history["devices"]["cpu0@a"]
    assert lane["busy_share"] == pytest.approx((1800 + 450) / 3600, abs=0.05)
    first, second = lane["spans"]
    assert (first[2:], history["jobs"][mine]["name"]) == (["succeeded", 1, mine], "mine")
    assert (second[2:], theirs in history["jobs"]) == (["job_error", 1, None], False)
    assert history["devices"]["cpu1@a"]["spans"] == []
    assert "gone@b" in flower.data("/devices/history", window="week")["history"]["devices"]
    assert flower.client.get("/nightshift/devices/history?window=year").status_code == 422


def test_a_thousand_short_attempts_are_drawn_as_a_few_bars(flower: FlowerApp) -> None:
    job_id = submit_job(flower.engine, owner_id=flower.owner).job_id
    for number in range(60):
        ran(flower.engine, job_id, number + 1, "cpu0@a", (3000 - number, 2999.5 - number), "succeeded")
    ran(flower.engine, job_id, 100, "cpu0@a", (2000, 1999.9), "crashed")
    lane = flower.data("/devices/history", window="week")["history"]["devices"]["cpu0@a"]
    assert (lane["attempts"], sum(span[3] for span in lane["spans"])) == (61, 61)
    assert len(lane["spans"]) <= 3
    assert "crashed" in {span[2] for span in lane["spans"]}, "a bad end is seen"


def test_the_queue_is_in_the_order_of_the_claim_and_says_why_each_waits(flower: FlowerApp) -> None:
    register(flower.engine, "cpu0@a")
    low = submit_job(flower.engine, owner_id=flower.owner, name="low", priority=1).job_id
    theirs = submit_job(flower.engine, owner_id="somebody else", name="secret", priority=9).job_id
    submit_job(flower.engine, owner_id=flower.owner, name="gpu", priority=5, resources={"device": "gpu"})
    submit_job(flower.engine, owner_id=flower.owner, name="tomorrow", run_at=4e9)
    queue = flower.data("/devices/history")["queue"]
    assert [(job["name"], job["priority"]) for job in queue["due"]] == [(None, 9), ("gpu", 5), ("low", 1)]
    assert [job["name"] for job in queue["later"]] == ["tomorrow"]
    assert (queue["counts"]["due"], queue["counts"]["later"], queue["devices"]["gpu"]["count"]) == (3, 1, 1)
    hidden, gpu, last = queue["due"]
    assert (hidden["id"], hidden["why"]) == (None, None)
    assert "device gpu" in gpu["why"]
    assert theirs not in flower.client.get("/nightshift/devices").text
    with read(flower.engine) as conn:
        row = queries.get_job(conn, low, None)
        assert last["why"] == explain(row, queries.explain_context(conn, row, 600.0)).sentence, (
            "as `nightshift why` says"
        )


def test_how_long_jobs_waited_before_they_began(flower: FlowerApp) -> None:
    register(flower.engine, "cpu0@a")
    submit_job(flower.engine, owner_id=flower.owner)
    claim_job(flower.engine, make_claimer("cpu0@a"))
    waited = flower.data("/devices/history")["history"]["wait"]
    assert waited["jobs"] == 1
    assert 0 <= waited["mean_seconds"] <= waited["longest_seconds"] < 300


def test_a_device_is_cordoned_and_drained_on_its_page(flower: FlowerApp) -> None:
    register_device(flower.engine, "gpu0@a")
    submit_job(flower.engine, owner_id=flower.owner)
    lease = claim_job(flower.engine, make_claimer("gpu0@a", "gpu")).lease
    assert flower.data("/devices/data")["devices"][0]["ledger"]["job_id"] == lease.job_id
    assert flower.post("/devices/drain", {"name": "gpu0@a"}).status_code == 200
    [device] = flower.data("/devices/data")["devices"]
    assert device["ledger"]["cordoned_at"] is not None
    assert device["job"]["stop_requested"] == "drain"
    assert flower.post("/devices/uncordon", {"name": "a"}).status_code == 200
    assert flower.data("/devices/data")["devices"][0]["ledger"]["cordoned_at"] is None
    assert flower.post("/devices/cordon", {"name": "gpu7@a"}).status_code == 404


def test_a_device_that_is_gone_is_forgotten_on_its_page(flower: FlowerApp) -> None:
    register_device(flower.engine, "cpu0@a")
    assert flower.post("/devices/forget", {"name": "cpu0@a"}).status_code == 409
    with write(flower.engine) as conn:
        workers.deregister(conn, "cpu0@a")
    assert flower.post("/devices/forget", {"name": "cpu0@a"}).status_code == 200
    assert flower.data("/devices/data")["devices"] == []
