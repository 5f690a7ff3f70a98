"""Redis hangs, is full, refuses, forgets or is flooded: submissions are accepted, running jobs do not notice, and when
it is back no worker is deaf."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import redis

from shared.celery_app import ATTEMPT_QUEUES
from tests.faults.oracle import assert_sound
from tests.support.redis import RedisServer, running_redis
from tests.support.stack import Process, Stack, eventually, open_stack

SUBMISSIONS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, server: RedisServer
) -> Iterator[tuple[Stack, list[Process]]]:
    from tests.support import databases

    folder = tmp_path_factory.mktemp("stack")
    url = databases.sqlite_database(folder, sqlite_template)
    with open_stack(folder, url, server.url, lease_seconds=300, heartbeat_seconds=0.3) as stack:
        yield stack, [stack.api(), stack.beat(), stack.worker()]


@contextmanager
def hung(server: RedisServer) -> Iterator[None]:
    """As if its host had frozen: connections stay open, nothing answers."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextmanager
def refusing(server: RedisServer) -> Iterator[None]:
    """Gone, without having written anything down."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    """`noeviction`: every write is answered with `OOM command not allowed`."""
    client = redis.Redis.from_url(server.url)
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("away", [hung, refusing, full])
def test_submissions_are_accepted_and_running_jobs_do_not_notice(
    stack: tuple[Stack, list[Process]],
    server: RedisServer,
    away: Callable[[RedisServer], AbstractContextManager[None]],
    record_property: Callable[[str, object], None],
) -> None:
    house_, processes = stack
    running = house_.post_job(steps=20, checkpoint=4, hold_at=10).json()["id"]
    house_.at_step(running, 10)
    accepted, usual = _submit(house_)
    with away(server):
        more, slowed = _submit(house_)
        house_.go(running)
        assert house_.finished(running).state == "succeeded"
    record_property("slower_by_ms", round(1000 * (slowed - usual)))
    print(f"{away.__name__}: slowest of {SUBMISSIONS} submissions {1000 * slowed:.0f} ms, before {1000 * usual:.0f} ms")
    assert house_.outcomes(running) == ["succeeded"]
    for job_id in accepted + more:
        assert house_.finished(job_id).state == "succeeded"
    after = house_.post_job(steps=3).json()["id"]
    assert house_.finished(after).state == "succeeded", "it hears the next doorbell too"
    assert all(process.alive() for process in processes)
    assert_sound(house_.engine, house_.root, [running, *accepted, *more, after])


def _submit(stack: Stack) -> tuple[list[str], float]:
    """Ids, and the seconds of the slowest."""
    ids, slowest = [], 0.0
    for _ in range(SUBMISSIONS):
        begun = time.perf_counter()
        answer = stack.post_job(steps=2)
        slowest = max(slowest, time.perf_counter() - begun)
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["id"])
    return ids, slowest


def test_the_list_of_doorbells_deleted(stack: tuple[Stack, list[Process]], server: RedisServer) -> None:
    house_, _ = stack
    held = house_.post_job(steps=6, hold_at=3).json()["id"]
    house_.at_step(held, 3)
    waiting, _ = _submit(house_)
    redis.Redis.from_url(server.url).delete(*ATTEMPT_QUEUES.values())
    house_.go(held)
    assert {house_.finished(job_id).state for job_id in waiting} == {"succeeded"}
    assert_sound(house_.engine, house_.root, [held, *waiting])


def test_thousands_of_doorbells_too_many(stack: tuple[Stack, list[Process]], server: RedisServer) -> None:
    """Doubled ones and rubbish, with jobs among them."""
    house_, processes = stack
    client = redis.Redis.from_url(server.url)
    held = house_.post_job(steps=6, hold_at=3).json()["id"]
    house_.at_step(held, 3)
    queue = ATTEMPT_QUEUES["auto"]
    house_.ring(held)
    real = eventually("a doorbell lies there", lambda: client.lindex(queue, 0))
    rubbish = json.dumps({**json.loads(real), "headers": {"task": "os.system", "id": "x"}}).encode()
    for _ in range(2):
        client.lpush(queue, *([real, *[rubbish] * 5, *[b"not json"] * 4] * 100))
    jobs, _ = _submit(house_)
    house_.go(held)
    assert {house_.finished(job_id).state for job_id in (held, *jobs)} == {"succeeded"}
    eventually("all messages were received", lambda: client.llen(queue) == 0)
    after = house_.post_job(steps=3).json()["id"]
    assert house_.finished(after).state == "succeeded"
    assert all(process.alive() for process in processes)
    assert_sound(house_.engine, house_.root, [held, *jobs, after])


def test_a_worker_that_stops_while_redis_hangs_gives_its_job_back_and_ends_well(
    stack: tuple[Stack, list[Process]], server: RedisServer
) -> None:
    house_, _ = stack
    worker = house_.worker(1, drain_seconds=10)  # its last resort comes before Celery gives Redis up
    held = [house_.post_job(steps=6, checkpoint=2, hold_at=3).json()["id"] for _ in range(2)]
    for job_id in held:
        house_.at_step(job_id, 3)
    (its,) = [job_id for job_id in held if house_.job(job_id).worker == "cpu1@test"]
    with hung(server):
        assert worker.terminate() == 0
        assert house_.pid_of("cpu1@test") is None, "it has deregistered"
        assert house_.outcomes(its) == ["drained"]
    for job_id in held:
        house_.go(job_id)
    assert {house_.finished(job_id).state for job_id in held} == {"succeeded"}
    assert_sound(house_.engine, house_.root, held)
