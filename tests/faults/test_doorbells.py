"""One doorbell per queue: thousands of submissions leave a few messages, and no job waits for one that was lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import func, select

from shared.celery_app import ATTEMPT_QUEUES
from shared.clock import iso, read_clock
from shared.db.engine import read
from shared.db.schema import attempts, jobs
from tests.faults.oracle import assert_sound
from tests.support import databases
from tests.support.redis import RedisServer, running_redis
from tests.support.stack import Stack, eventually, open_stack


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def stack(tmp_path: Path, sqlite_template: Path, server: RedisServer) -> Iterator[Stack]:
    redis.Redis.from_url(server.url).flushall()
    url = databases.sqlite_database(tmp_path, sqlite_template)
    with open_stack(tmp_path, url, server.url, lease_seconds=300, heartbeat_seconds=0.3) as stack:
        yield stack


def lengths(server: RedisServer) -> dict[str, int]:
    client = redis.Redis.from_url(server.url)
    return {device: client.llen(name) for device, name in ATTEMPT_QUEUES.items()}  # type: ignore[misc]


def post(stack: Stack, **spec: object) -> str:
    answer = stack.post_job(steps=2, spec=dict(spec))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_many_submissions_leave_a_message_per_queue(stack: Stack, server: RedisServer) -> None:
    stack.api()
    specs = [{"kind": "train", "model": {"family": "cnn"}, "dataset": "digits", "tags": {"probe": "train"}}] * 1_000
    for _ in range(10):
        answer = stack.post("/v1/jobs/batch", json={"jobs": specs})
        assert answer.status_code == 202, answer.text[:1_000]
    post(stack, resources={"device": "gpu"})
    eventually("the doorbells are rung", lambda: lengths(server) == {"auto": 1, "cpu": 0, "gpu": 1})
    with read(stack.engine) as conn:
        assert conn.scalar(select(func.count()).select_from(jobs)) == 10_001


def test_a_job_that_is_not_due_has_no_doorbell_until_it_is(stack: Stack, server: RedisServer) -> None:
    stack.api()
    with read(stack.engine) as conn:
        soon = iso(read_clock(conn) + 3)
    later = post(stack, run_at=soon)
    post(stack, run_at="2099-01-01T00:00:00Z")
    due = post(stack, resources={"device": "gpu"})
    eventually("the doorbell of the job that is due is rung", lambda: lengths(server)["gpu"])
    assert lengths(server)["auto"] == 0, "one thread rings in order, so those before it were not rung"
    stack.worker()
    stack.beat()
    assert stack.finished(later).state == "succeeded"
    assert stack.job(due).state == "queued"


def test_two_idle_workers_share_what_one_doorbell_announced(stack: Stack, server: RedisServer) -> None:
    """The first wakes the second: there is no beat that would ring again."""
    stack.api()
    first, second = (stack.post_job(steps=6, hold_at=3).json()["id"] for _ in range(2))
    third = post(stack)
    eventually("the doorbell is rung", lambda: lengths(server)["auto"] == 1)
    workers = [stack.worker(number) for number in range(2)]
    for job_id in (first, second):
        stack.at_step(job_id, 3)
    assert {stack.attempts(job_id)[0].worker for job_id in (first, second)} == {"cpu0@test", "cpu1@test"}
    stack.go(first)
    assert stack.finished(third).state == "succeeded", "it is rung for when an attempt ends"
    stack.go(second)
    stack.finished(second)
    with read(stack.engine) as conn:
        tasks = conn.scalars(select(attempts.c.celery_task_id)).all()
    assert len(set(tasks)) == 3, "each attempt is a Celery task of its own"
    assert all(worker.alive() for worker in workers)
    assert_sound(stack.engine, stack.root, [first, second, third])


def test_a_worker_killed_after_it_heard(stack: Stack, server: RedisServer) -> None:
    """The message is gone and nothing is claimed; the dispatcher rings for the other worker."""
    stack.api()
    doomed = stack.worker(failpoint="doorbell.heard:kill")
    job_id = post(stack)
    eventually("the worker is dead", lambda: not doomed.alive())
    assert lengths(server)["auto"] == 0, "it had taken the message"
    assert stack.job(job_id).state == "queued"
    stack.worker(1)
    stack.beat()
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["succeeded"]


def test_redis_loses_everything_between_the_doorbell_and_the_worker(stack: Stack, server: RedisServer) -> None:
    stack.api()
    first = post(stack)
    eventually("the doorbell is rung", lambda: lengths(server)["auto"] == 1)
    redis.Redis.from_url(server.url).flushall()
    second = post(stack)
    eventually("the next submission rings again", lambda: lengths(server)["auto"] == 1)
    stack.worker()
    assert [stack.finished(job_id).state for job_id in (first, second)] == ["succeeded"] * 2


def test_a_frozen_worker_keeps_no_other_from_hearing(stack: Stack, server: RedisServer) -> None:
    """It takes a message that it cannot serve; a later submission, or the dispatcher, rings for the others."""
    stack.api()
    stack.beat()
    frozen = stack.worker()
    held = stack.post_job(steps=6, hold_at=3).json()["id"]
    stack.at_step(held, 3)
    frozen.freeze()
    try:
        stack.worker(1)
        assert stack.finished(post(stack)).state == "succeeded"
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    stack.go(held)
    assert stack.finished(held).state == "succeeded"
