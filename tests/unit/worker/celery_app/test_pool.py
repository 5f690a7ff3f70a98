"""The pool: one at a time, survives what Celery's bookkeeping raises, and its terminate is a cancel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from worker.celery_app import pool as module
from worker.celery_app.pool import AttemptPool

CAP = 120


@pytest.fixture
def pool() -> Iterator[AttemptPool]:
    pool = AttemptPool(limit=8)
    pool.start()
    yield pool
    pool.stop()


class Loop:
    def __init__(self) -> None:
        self.readers: dict[int, Any] = {}

    def add_reader(self, descriptor: int, callback: Any, *args: Any) -> None:
        self.readers[descriptor] = callback


def test_it_runs_one_task_at_a_time_and_wakes_the_loop(pool: AttemptPool) -> None:
    import select

    loop = Loop()
    pool.register_with_event_loop(loop)
    [descriptor] = loop.readers
    done = threading.Event()
    accepted: list[tuple[int, float]] = []
    pool.apply_async(
        lambda: 1, callback=lambda _: done.set(), accept_callback=lambda pid, at: accepted.append((pid, at))
    )
    assert done.wait(CAP)
    assert accepted
    assert select.select([descriptor], [], [], CAP)[0], "the end of a task must wake Celery's loop"
    loop.readers[descriptor]()
    assert pool.info["max-concurrency"] == 1


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_whatever_is_raised_the_next_task_runs(pool: AttemptPool, error: BaseException) -> None:
    def fail(*_: Any) -> None:
        raise error

    pool.apply_async(fail, callback=fail)
    done = threading.Event()
    pool.apply_async(done.set, callback=lambda _: None)
    assert done.wait(CAP)


def test_terminate_reaches_the_supervisor_only_while_a_task_runs(
    pool: AttemptPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(module, "on_terminate", lambda: calls.append("terminate"))
    pool.terminate_job(1, 15)
    assert calls == []
    running, go, done = threading.Event(), threading.Event(), threading.Event()

    def task() -> None:
        running.set()
        go.wait(CAP)

    result = pool.apply_async(task, callback=lambda _: done.set())
    assert running.wait(CAP)
    pool.terminate_job(1, 15)
    assert calls == ["terminate"]
    result.terminate(15)  # Celery calls this too
    go.set()
    assert done.wait(CAP)


def test_stopping_the_pool_drains_the_supervisor_and_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = AttemptPool(limit=1)
    pool.start()
    go, done = threading.Event(), threading.Event()
    monkeypatch.setattr(module, "on_stop", go.set)

    def task() -> None:
        go.wait(CAP)
        done.set()

    pool.apply_async(task, callback=lambda _: None)
    pool.stop()
    assert done.is_set(), "stop returned before the attempt had ended"
