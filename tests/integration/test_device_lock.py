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
from shared.jobs.explain import explain
from tests.support.factories import expire_lease
from tests.support.redis import running_redis
from tests.support.stack import Stack, eventually, gone, open_stack
from worker.runners.device_lock import DeviceLock

#: Leases are ended by hand: however slow the machine, none of a living worker runs out.
LEASE = 300.0


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str) -> Iterator[Stack]:
    with (
        running_redis(tmp_path) as redis,
        open_stack(tmp_path, sqlite_url, redis.url, lease_seconds=LEASE, heartbeat_seconds=0.3) as stack,
    ):
        yield stack


def _family(stack: Stack, job_id: str) -> list[int]:
    """Pids of the two grandchildren of a probe that forks: one in its group, one that left it."""
    folder = stack.folder / "data" / "storage" / "jobs" / job_id / "attempts" / "1" / "family"
    eventually("it has forked", lambda: folder.exists() and len(list(folder.iterdir())) == 2)
    return [int(path.name) for path in folder.iterdir()]


def test_orphans_of_a_killed_worker_are_gone_before_the_next_runner_starts(stack: Stack) -> None:
    """Both at once, so that neither can clean up after the other."""
    stack.beat()
    first = stack.worker()
    job_id = stack.submit("ignore")
    family = _family(stack, job_id)
    forkserver = stack.forkserver(first)
    forkserver.suspend()
    first.kill()
    forkserver.kill()
    assert not all(map(gone, family)), "they outlive the worker and its forkserver, or this test tests nothing"
    expire_lease(stack.engine, job_id)
    second = stack.worker()
    eventually("the next runner runs", lambda: stack.runner_pids(second))
    assert all(map(gone, family))


def test_killed_forkserver_leaves_no_grandchild(stack: Stack) -> None:
    worker = stack.worker()
    family = _family(stack, stack.submit("ignore"))
    stack.forkserver(worker).kill()
    eventually("its orphans are gone", lambda: all(map(gone, family)))
    assert worker.alive()


def test_no_runner_starts_while_another_process_holds_the_device(stack: Stack) -> None:
    worker = stack.worker(slot_wait_seconds=300)
    lock = DeviceLock(stack.folder / "data" / "locks" / "test-cpu0.lock").take()
    job_id = stack.submit("train", steps=3)
    eventually("it waits", lambda: any("still held" in message for _, message in stack.logs(job_id)))
    with read(stack.engine) as conn:
        found = explain(job := queries.get_job(conn, job_id, None), queries.explain_context(conn, job, LEASE))
    assert job["state"] == "running"
    assert "waiting for its device" in found.sentence
    assert stack.runner_pids(worker) == []
    os.close(lock)
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["succeeded"]


def test_a_device_that_stays_held_gives_the_job_back_uncharged(stack: Stack) -> None:
    stack.worker(slot_wait_seconds=0.1)
    lock = DeviceLock(stack.folder / "data" / "locks" / "test-cpu0.lock").take()
    job_id = stack.submit("train", steps=3)
    eventually("it was given back", lambda: "drained" in stack.outcomes(job_id))
    assert (stack.job(job_id).retries, stack.job(job_id).lost_streak) == (0, 0)
    os.close(lock)


def test_a_worker_that_is_frozen_keeps_its_device(stack: Stack) -> None:
    """A second worker in its place, started by mistake or by a supervisor, waits for the first one's runner."""
    stack.beat()
    first = stack.worker()
    job_id = stack.submit("train", steps=20, checkpoint=4, hold_at=10)
    stack.at_step(job_id, 10)
    [runner] = stack.runner_pids(first)
    first.freeze()
    expire_lease(stack.engine, job_id)
    second = stack.worker(slot_wait_seconds=300)
    eventually("the second has the job", lambda: stack.job(job_id).fence == 2)
    eventually("it waits", lambda: any("still held" in message for _, message in stack.logs(job_id)))
    assert psutil.pid_exists(runner)
    assert stack.runner_pids(second) == []
    os.kill(first.pid, signal.SIGCONT)
    stack.go(job_id)
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["lost", "succeeded"]
