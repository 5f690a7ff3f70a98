"""Whatever becomes of a worker, no two runners share its device."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared.db.engine import read
from shared.jobs import queries
from shared.jobs.why import explain
from tests.support.factories import expire_lease
from tests.support.house import House, eventually, gone, open_house
from tests.support.redis import running_redis
from worker.slot import Slot

#: Leases are ended by hand: however slow the machine, none of a living worker runs out.
LEASE = 300.0


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with (
        running_redis(tmp_path) as redis,
        open_house(tmp_path, sqlite_url, redis.url, lease_seconds=LEASE, heartbeat_seconds=0.3) as house,
    ):
        yield house


def _family(house: House, job_id: str) -> list[int]:
    """Pids of the two grandchildren of a probe that forks: one in its group, one that left it."""
    folder = house.folder / "data" / "storage" / "jobs" / job_id / "attempts" / "1" / "family"
    eventually("it has forked", lambda: folder.exists() and len(list(folder.iterdir())) == 2)
    return [int(path.name) for path in folder.iterdir()]


def test_orphans_of_a_killed_worker_are_gone_before_the_next_runner_starts(house: House) -> None:
    """Both at once, so that neither can clean up after the other."""
    house.beat()
    first = house.worker()
    job_id = house.submit("ignore")
    family = _family(house, job_id)
    forkserver = house.forkserver(first)
    forkserver.suspend()
    first.kill()
    forkserver.kill()
    assert not all(map(gone, family)), "they outlive the worker and its forkserver, or this test tests nothing"
    expire_lease(house.engine, job_id)
    second = house.worker()
    eventually("the next runner runs", lambda: house.runner_pids(second))
    assert all(map(gone, family))


def test_killed_forkserver_leaves_no_grandchild(house: House) -> None:
    worker = house.worker()
    family = _family(house, house.submit("ignore"))
    house.forkserver(worker).kill()
    eventually("its orphans are gone", lambda: all(map(gone, family)))
    assert worker.alive()


def test_no_runner_starts_while_somebody_else_holds_the_device(house: House) -> None:
    worker = house.worker(slot_wait_seconds=300)
    lock = Slot(house.folder / "data" / "locks" / "test-cpu0.lock").take()
    job_id = house.submit("train", steps=3)
    eventually("it waits", lambda: any("still held" in message for _, message in house.logs(job_id)))
    with read(house.engine) as conn:
        found = explain(job := queries.get_job(conn, job_id, None), queries.surroundings(conn, job, LEASE))
    assert job["state"] == "running"
    assert "waiting for its device" in found.sentence
    assert house.runner_pids(worker) == []
    os.close(lock)
    assert house.finished(job_id).state == "succeeded"
    assert house.outcomes(job_id) == ["succeeded"]


def test_a_device_that_stays_held_gives_the_job_back_uncharged(house: House) -> None:
    house.worker(slot_wait_seconds=0.1)
    lock = Slot(house.folder / "data" / "locks" / "test-cpu0.lock").take()
    job_id = house.submit("train", steps=3)
    eventually("it was given back", lambda: "drained" in house.outcomes(job_id))
    assert (house.job(job_id).retries, house.job(job_id).lost_streak) == (0, 0)
    os.close(lock)


def test_a_worker_that_is_frozen_keeps_its_device(house: House) -> None:
    """A second worker in its place, started by mistake or by a supervisor, waits for the first one's runner."""
    house.beat()
    first = house.worker()
    job_id = house.submit("train", steps=20, checkpoint=4, hold_at=10)
    house.at_step(job_id, 10)
    [runner] = house.runner_pids(first)
    os.kill(first.pid, signal.SIGSTOP)
    expire_lease(house.engine, job_id)
    second = house.worker(slot_wait_seconds=300)
    eventually("the second has the job", lambda: house.job(job_id).fence == 2)
    eventually("it waits", lambda: any("still held" in message for _, message in house.logs(job_id)))
    assert psutil.pid_exists(runner)
    assert house.runner_pids(second) == []
    os.kill(first.pid, signal.SIGCONT)
    house.go(job_id)
    assert house.finished(job_id).state == "succeeded"
    assert house.outcomes(job_id) == ["lost", "succeeded"]
