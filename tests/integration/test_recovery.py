"""What is lost when a process, a host's worker, or all of Redis goes: nothing but a little time."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from shared.celery_app import ATTEMPT_QUEUES
from shared.jobs.states import StopRequest
from tests.support import probe
from tests.support.factories import expire_lease
from tests.support.redis import RedisServer, running_redis
from tests.support.stack import Stack, eventually, gone, open_stack

#: Leases are ended by hand: however slow the machine, none of a living worker runs out. (`nightshift up` waits for real
#: ones in tests/e2e.)
LEASE = {"lease_seconds": 300, "heartbeat_seconds": 0.3}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str, server: RedisServer) -> Iterator[Stack]:
    with open_stack(tmp_path, sqlite_url, server.url, stop_grace_seconds=2, **LEASE) as stack:
        yield stack


def _is_untouched(stack: Stack, job_id: str, steps: int) -> bool:
    """The job ended as if nothing had happened: the same chain, one metric row per step."""
    [artifact] = stack.artifacts(job_id)
    text = (stack.folder / "data" / "storage" / artifact.stored_as).read_text()
    return text == probe.chain(steps) and stack.steps(job_id) == list(range(1, steps + 1))


def _held_job(stack: Stack, **fields: object) -> str:
    """A job of 20 steps that waits at step 10, with its checkpoint of step 8 committed."""
    job_id = stack.submit("train", steps=20, checkpoint=4, hold_at=10, **fields)
    stack.at_step(job_id, 10)
    eventually("two checkpoints are committed", lambda: len(stack.checkpoints(job_id)) == 2)
    return job_id


def test_killed_worker_is_rescued_by_another(stack: Stack) -> None:
    stack.beat()
    first = stack.worker(0)
    job_id = _held_job(stack)
    family = first.family()
    first.kill()
    eventually("the whole family is gone", lambda: all(gone(process) for process in family))
    expire_lease(stack.engine, job_id)
    stack.worker(1)
    stack.go(job_id)
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["lost", "succeeded"]
    assert stack.attempts(job_id)[1].resumed_step == 8
    assert _is_untouched(stack, job_id, 20)


def test_killed_forkserver_costs_one_attempt(stack: Stack) -> None:
    worker = stack.worker()
    job_id = _held_job(stack)
    forkserver = stack.forkserver(worker)
    stack.go(job_id)
    forkserver.kill()
    assert stack.finished(job_id).state == "succeeded"
    assert _is_untouched(stack, job_id, 20)
    assert worker.alive()


def test_frozen_worker_writes_nothing_when_it_comes_back(stack: Stack) -> None:
    stack.beat()
    first = stack.worker(0)
    job_id = _held_job(stack)
    first.freeze()
    expire_lease(stack.engine, job_id)
    stack.worker(1)
    eventually("the other one has it", lambda: stack.job(job_id).fence == 2)
    os.kill(first.pid, signal.SIGCONT)
    eventually("the stale runner is gone", lambda: not stack.runner_pids(first))
    stack.go(job_id)
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["lost", "succeeded"]
    assert _is_untouched(stack, job_id, 20)
    again = stack.submit("train", steps=3)
    stack.submit("train", steps=3)
    assert stack.finished(again).state == "succeeded"


def test_flushall_with_ten_jobs_queued(stack: Stack, server: RedisServer) -> None:
    ids = [stack.submit("train", steps=5) for _ in range(10)]
    redis.Redis.from_url(server.url).flushall()
    stack.beat()
    stack.worker()
    assert [stack.finished(job_id).state for job_id in ids] == ["succeeded"] * 10
    assert all(stack.outcomes(job_id) == ["succeeded"] for job_id in ids)


def test_flushall_while_a_job_runs(stack: Stack, server: RedisServer) -> None:
    stack.beat()
    worker = stack.worker()
    job_id = _held_job(stack)
    redis.Redis.from_url(server.url).flushall()
    stack.go(job_id)
    assert stack.finished(job_id).state == "succeeded"
    later = stack.submit("train", steps=3, ring=False)
    assert stack.finished(later).state == "succeeded"
    assert worker.alive()


def test_redis_that_dies_and_comes_back_empty(stack: Stack, server: RedisServer) -> None:
    stack.beat()
    worker = stack.worker()
    running = _held_job(stack)
    server.kill()
    waiting = stack.submit("train", steps=3, ring=False)
    stack.go(running)
    assert stack.finished(running).state == "succeeded", "a running job does not notice"
    server.start()
    assert stack.finished(waiting).state == "succeeded"
    assert worker.alive()


def test_killed_beat_leaves_no_process_behind(stack: Stack) -> None:
    beat = stack.beat()
    waiting = [stack.submit("train", steps=3, ring=False) for _ in range(2)]
    stack.worker()
    assert stack.finished(waiting[0]).state == "succeeded", "it rings for jobs whose doorbell was lost"
    assert [child for child in beat.family()[1:] if not gone(child)] == []
    beat.kill()
    stack.beat()
    assert stack.finished(waiting[1]).state == "succeeded"


def test_maintenance_goes_on_without_redis(stack: Stack, server: RedisServer) -> None:
    """Deadlines are kept and leases taken back while nothing can be poked."""
    stack.beat()
    first = stack.worker()
    job_id = _held_job(stack)
    server.kill()
    first.kill()
    expire_lease(stack.engine, job_id)
    eventually("the rescuer took it back", lambda: stack.job(job_id).state == "queued")
    server.start()


def test_drain_gives_the_job_back_uncharged(stack: Stack) -> None:
    first = stack.worker(0)
    job_id = _held_job(stack)
    assert first.terminate() == 0
    job = stack.job(job_id)
    assert (job.state, job.retries, job.lost_streak) == ("queued", 0, 0)
    assert stack.outcomes(job_id) == ["drained"]
    assert stack.pid_of("cpu0@test") is None, "a worker that left on purpose is offline"
    stack.worker(1)
    stack.ring(job_id)
    stack.go(job_id)
    assert stack.finished(job_id).state == "succeeded"
    assert stack.attempts(job_id)[1].resumed_step == 10, "the drain wrote a checkpoint"
    assert _is_untouched(stack, job_id, 20)


def test_terminate_outlives_the_worker_that_heard_it(stack: Stack) -> None:
    worker = stack.worker(stop_grace_seconds=60)
    job_id = stack.submit("ignore")
    family = stack.folder / "data" / "storage" / "jobs" / job_id / "attempts" / "1" / "family"
    eventually("its runner ignores everything", lambda: family.exists() and len(list(family.iterdir())) == 2)
    stack.terminate(job_id)
    eventually("the request is in SQL", lambda: stack.job(job_id).stop_requested == "cancel")
    worker.kill()
    expire_lease(stack.engine, job_id)
    stack.beat()
    assert stack.finished(job_id).state == "cancelled"
    assert stack.outcomes(job_id) == ["lost"]


def test_worker_killed_when_it_begins_to_drain(stack: Stack) -> None:
    stack.beat()
    first = stack.worker(0, failpoint="drain.seen:kill")
    job_id = _held_job(stack)
    assert first.terminate() == -signal.SIGKILL
    expire_lease(stack.engine, job_id)
    stack.worker(1)
    stack.go(job_id)
    assert stack.finished(job_id).state == "succeeded"
    assert (stack.outcomes(job_id), stack.attempts(job_id)[1].resumed_step) == (["lost", "succeeded"], 8)
    assert _is_untouched(stack, job_id, 20)


def test_drain_kills_a_runner_that_does_not_listen(stack: Stack) -> None:
    worker = stack.worker(drain_seconds=1)
    job_id = stack.submit("ignore")
    eventually("it runs", lambda: stack.runner_pids(worker))
    assert worker.terminate() == 0
    assert (stack.job(job_id).state, stack.outcomes(job_id)) == ("queued", ["drained"])


def test_silent_runner_is_stalled(stack: Stack) -> None:
    stack.worker(stall_seconds=1)
    job_id = stack.submit("sleep")
    eventually("it was given up", lambda: any(stack.outcomes(job_id)))
    first = stack.attempts(job_id)[0]
    assert (first.outcome, first.error["type"]) == ("stalled", "stalled")
    stack.ask(job_id, StopRequest.CANCEL)


@pytest.mark.parametrize(("how", "number"), [("spin", signal.SIGABRT), ("stop", signal.SIGKILL)])
def test_wedged_step_loop_is_killed_and_goes_on_from_its_checkpoint(stack: Stack, how: str, number: int) -> None:
    """By its own measure: `stall_seconds` is far away."""
    stack.worker(stall_factor=2, stall_floor_seconds=3)
    job_id = stack.submit("train", steps=20, checkpoint=4, hold_at=10, wedge=how)
    stack.at_step(job_id, 10)
    stack.go(job_id)
    assert stack.finished(job_id).state == "succeeded"
    first, second = stack.attempts(job_id)
    assert (first.outcome, first.error["type"], first.signal) == ("stalled", "stalled", number)
    assert "no step after step 10" in first.error["message"]
    assert (first.evidence["phase"], first.evidence["step"]) == ("train", 10)
    assert first.evidence["last_frames"][-1]["type"] == "progress"
    if how == "spin":
        assert any("_hold" in line for line in first.evidence["log_tail"]), "it says where it hung"
    assert (second.outcome, second.resumed_step) == ("succeeded", 8)
    assert _is_untouched(stack, job_id, 20)


def test_database_that_is_locked_makes_the_job_wait(stack: Stack) -> None:
    """Longer than two thirds of a lease: the runner is frozen, thawed, and nothing is lost."""
    import sqlite3

    stack.worker(lease_seconds=3)  # and no process that would take the lease back
    job_id = _held_job(stack)
    [runner] = [psutil.Process(pid) for pid in stack.runner_pids(stack.processes[-1])]
    lock = sqlite3.connect(stack.database_url.removeprefix("sqlite:///"), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    stack.go(job_id)
    eventually("the runner is frozen", lambda: not runner.is_running() or runner.status() == psutil.STATUS_STOPPED)
    lock.execute("ROLLBACK")
    lock.close()
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["succeeded"]
    assert _is_untouched(stack, job_id, 20)


def _real_doorbell(server: RedisServer, stack: Stack) -> dict[str, object]:
    client = redis.Redis.from_url(server.url)
    stack.ring("0" * 16)
    element = client.rpop(ATTEMPT_QUEUES["auto"])
    assert isinstance(element, bytes)
    message: dict[str, object] = json.loads(element)
    return message


def _garbage(real: dict[str, object]) -> list[bytes]:
    def changed(**headers: object) -> bytes:
        return json.dumps({**real, "headers": {**real["headers"], **headers}}).encode()  # type: ignore[dict-item]

    without_id = {key: value for key, value in real["headers"].items() if key != "id"}  # type: ignore[attr-defined]
    return [
        b"not json",
        b"\xff\xfe\x00",
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"[" * 100_000,
        b'{"body": 1, "headers": 2, "properties": 3}',
        json.dumps({key: value for key, value in real.items() if key != "properties"}).encode(),
        json.dumps({**real, "headers": without_id}).encode(),
        json.dumps({**real, "body": "%%% no base64"}).encode(),
        json.dumps({**real, "content-type": "application/x-python-serialize"}).encode(),
        changed(task="os.system"),
        changed(task=["nightshift.attempt"]),
        changed(id="x" * 100_000),
        changed(id={"a": 1}),
        changed(eta="tomorrow"),
        changed(expires="yesterday"),
        changed(timelimit="none"),
        json.dumps({**real, "body": "A" * 10_000_000}).encode(),
    ]


def test_garbage_and_duplicates_in_the_queue(stack: Stack, server: RedisServer) -> None:
    client = redis.Redis.from_url(server.url)
    real = _real_doorbell(server, stack)
    worker = stack.worker()
    queue = ATTEMPT_QUEUES["auto"]
    for element in _garbage(real):
        client.lpush(queue, element)
    client.lpush(queue, *[json.dumps(real).encode()] * 200)
    job_id = stack.submit("train", steps=5)
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["succeeded"]
    eventually("everything was taken", lambda: client.llen(queue) == 0)
    after = stack.submit("train", steps=5)
    assert stack.finished(after).state == "succeeded", "nothing stays behind that makes the worker deaf"
    assert worker.alive()
    eventually("all are acknowledged", lambda: client.hlen("unacked") == 0)


def test_busy_worker_leaves_the_next_job_to_others(stack: Stack) -> None:
    stack.worker(0)
    held = _held_job(stack)
    second = stack.submit("train", steps=5)
    stack.worker(1)
    assert stack.finished(second).worker == "cpu1@test"
    stack.go(held)
    assert stack.finished(held).state == "succeeded"
