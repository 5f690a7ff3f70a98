"""A worker keeps to the queues it was started with. A real one is in tests/integration/test_attempts.py."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker.control import Panel

from shared.celery_app import MAINTENANCE_QUEUE, make_celery
from shared.settings import Settings
from worker import beat
from worker.celery_app import queue_guard, remote_control
from worker.celery_app.queue_guard import QueueGuard

OWN = {"nightshift.cpu", "nightshift.auto"}


class Consumer:
    """Celery's, as far as queues go."""

    hostname = "cpu0@test"
    own_queues: QueueGuard

    def __init__(self) -> None:
        self.queues = set(OWN)
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.app = SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=dict.fromkeys(OWN))))
        self.timer = SimpleNamespace(call_after=lambda s, work, args: self.later.append((s, lambda: work(*args))))

    @property
    def task_consumer(self) -> Any:
        return SimpleNamespace(queues=[SimpleNamespace(name=name) for name in self.queues])

    def add_task_queue(self, queue: str) -> None:
        self.queues.add(queue)
        self.own_queues.changed(self)

    def cancel_task_queue(self, queue: str) -> None:
        self.queues.discard(queue)
        self.own_queues.changed(self)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    told: list[bool] = []
    monkeypatch.setattr(queue_guard, "on_change", told.append)
    return told


def test_a_lost_queue_is_told_at_once_and_taken_back_after_the_interval(told: list[bool]) -> None:
    consumer = Consumer()
    QueueGuard(consumer).start(consumer)
    assert (told, consumer.later) == ([], [])
    consumer.cancel_task_queue("nightshift.auto")
    [(seconds, work)] = consumer.later
    assert (told, seconds) == ([False], queue_guard.restore_seconds)
    work()
    assert (told, consumer.queues) == ([False, True], OWN)


def test_a_foreign_queue_is_dropped_and_hides_nothing(told: list[bool]) -> None:
    consumer = Consumer()
    QueueGuard(consumer)
    consumer.add_task_queue("evil")
    assert told == [], "it listens to its own as before"
    consumer.later[0][1]()
    assert (told, consumer.queues) == ([], OWN)


def test_after_a_lost_connection_the_queues_are_right_at_once(told: list[bool]) -> None:
    consumer = Consumer()
    step = QueueGuard(consumer)
    consumer.cancel_task_queue("nightshift.cpu")
    consumer.later.clear()  # as Celery does with its timers
    step.start(consumer)
    assert (told, consumer.queues) == ([False, True], OWN)


def test_maintenance_keeps_its_queue_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_guard, "restore_seconds", 5.0)
    settings = Settings(redis_url="redis://127.0.0.1:1/0", maintenance_seconds=7)  # type: ignore[arg-type]
    celery_worker = beat.make_worker(make_celery(settings, "worker"), settings)
    own = celery_worker.consumer.own_queues
    assert isinstance(celery_worker.consumer, queue_guard.Listener)
    assert (own._own, queue_guard.restore_seconds) == ({MAINTENANCE_QUEUE}, 7)


def test_only_looking_and_ending_a_task_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    known = set(Panel.data)
    assert known >= remote_control.ALLOWED, "a misspelt command would be refused"
    remote_control.install()
    refused = {name for name in known if name not in remote_control.ALLOWED}
    assert {"shutdown", "pool_restart", "autoscale", "disable_events", "objgraph", "hello"} <= refused
    assert all("refused" in Panel.data[name](None, msg="x", anything=1)["error"] for name in refused)
    assert Panel.data["ping"](None) == {"ok": "pong"}
