"""Ringing never waits for long, whatever Redis does; the settings that keep jobs safe are set."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from nightshift.errors import ConfigurationError
from shared import celery_app, doorbell
from shared.errors import BrokerUnavailable
from shared.settings import Settings
from tests.support.redis import free_port, running_redis


@contextmanager
def _deaf_server() -> Iterator[str]:
    """Accepts connections in the kernel's backlog and never answers: what a frozen Redis looks like."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def point(url: str) -> None:
        monkeypatch.setattr(celery_app, "get_settings", lambda: Settings(redis_url=url))
        celery_app.get_app.cache_clear()
        celery_app._redis.cache_clear()
        monkeypatch.setattr(doorbell, "_notifier", doorbell._Notifier())

    yield point
    celery_app.get_app.cache_clear()
    celery_app._redis.cache_clear()


def test_a_refused_ring_is_an_error(point_at) -> None:  # type: ignore[no-untyped-def]
    point_at(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(BrokerUnavailable):
        doorbell.ring("cpu", "0" * 16)
    with pytest.raises(BrokerUnavailable):
        celery_app.ping()
    with pytest.raises(BrokerUnavailable):
        celery_app.queue_lengths()


def test_a_ring_does_not_wait_for_a_publish_that_hangs(point_at, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    hangs, let_go = threading.Event(), threading.Event()

    def publish(device: str, job_id: str) -> None:
        hangs.set()
        let_go.wait()

    monkeypatch.setattr(doorbell, "_publish", publish)
    point_at("redis://127.0.0.1:1/0")
    try:
        for _ in range(20):
            doorbell.ring_later("auto", "0" * 16)
        assert hangs.wait(120)
        with pytest.raises(BrokerUnavailable, match="did not accept a message within"):
            doorbell.ring("auto", "0" * 16)
    finally:
        let_go.set()


def test_a_publish_to_a_hung_redis_is_given_up(point_at) -> None:  # type: ignore[no-untyped-def]
    """By the deadlines of `test_settings_that_keep_jobs_safe`; the next one finds the thread free."""
    with _deaf_server() as url:
        point_at(url)
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match="does not answer"):
                doorbell._notifier.ring("auto", "0" * 16).result()


@pytest.mark.parametrize("role", ["producer", "worker"])
def test_settings_that_keep_jobs_safe(role: celery_app.Role) -> None:
    conf = celery_app.make_celery(Settings(), role).conf
    assert conf.task_acks_late is False
    assert conf.worker_disable_prefetch is True
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_reject_on_worker_lost is False
    assert conf.task_ignore_result is True
    assert conf.result_backend is None
    assert list(conf.accept_content) == ["json"]
    assert conf.broker_connection_max_retries is None
    assert conf.worker_cancel_long_running_tasks_on_connection_loss is False
    assert conf.task_publish_retry is False
    assert conf.broker_transport_options["socket_timeout"] <= (1 if role == "producer" else 10)
    assert {queue.name for queue in conf.task_queues} == {
        *celery_app.ATTEMPT_QUEUES.values(),
        celery_app.MAINTENANCE_QUEUE,
    }


def test_other_brokers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        celery_app.make_celery(Settings(redis_url="amqp://localhost"))


@pytest.fixture
def server(tmp_path: Path, point_at) -> Iterator[redis.Redis]:  # type: ignore[no-untyped-def]
    with running_redis(tmp_path) as running:
        point_at(running.url)
        with redis.Redis.from_url(running.url) as client:
            yield client


def test_a_queue_holds_one_doorbell(server: redis.Redis) -> None:
    for number in range(50):
        doorbell.ring("cpu", f"{number:016x}")
    doorbell.ring("auto", "a" * 16)
    assert celery_app.queue_lengths() == {"auto": 1, "cpu": 1, "gpu": 0}


def test_a_doorbell_that_was_heard_or_lost_is_rung_again(server: redis.Redis) -> None:
    for lose in (lambda: server.rpop(celery_app.ATTEMPT_QUEUES["cpu"]), server.flushall):
        doorbell.ring("cpu", "0" * 16)
        lose()
        doorbell.ring("cpu", "1" * 16)
        assert celery_app.queue_lengths()["cpu"] == 1
        message = json.loads(server.lindex(celery_app.ATTEMPT_QUEUES["cpu"], 0))  # type: ignore[arg-type]
        assert message["headers"]["argsrepr"] == "1" * 16
        server.flushall()


def test_rings_during_a_publish_join_one_that_comes_after_it(point_at, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """The one being published may be for an earlier COMMIT only."""
    published: list[str] = []
    inside, let_go = threading.Event(), threading.Event()

    def publish(device: str, job_id: str) -> None:
        published.append(job_id)
        inside.set()
        assert let_go.wait(120)

    monkeypatch.setattr(doorbell, "_publish", publish)
    point_at("redis://127.0.0.1:1/0")
    doorbell.ring_later("auto", "first")
    assert inside.wait(120)
    later = [doorbell._notifier.ring("auto", name) for name in ("second", "third")]
    let_go.set()
    for ring in later:
        ring.result(120)
    assert published == ["first", "second"]
