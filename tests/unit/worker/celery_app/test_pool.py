"""The pool: one task on the device, survives what Celery's bookkeeping raises, and its terminate is a cancel."""

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


class Task:
    """A task that leaves the device and ends when it is told to."""

    def __init__(self) -> None:
        self.number = 0
        self.running, self.leave, self.left = threading.Event(), threading.Event(), threading.Event()
        self.go, self.done = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.running.set()
        while not self.go.wait(0.01):
            if self.leave.is_set() and not self.left.is_set():
                module.free_device()
                self.left.set()

    def apply(self, pool: AttemptPool) -> Any:
        def accept(number: int, at: float) -> None:
            self.number = number

        return pool.apply_async(self, callback=lambda _: self.done.set(), accept_callback=accept)


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
    calls: list[int] = []
    monkeypatch.setattr(module, "on_terminate", calls.append)
    task = Task()
    result = task.apply(pool)
    assert task.running.wait(CAP)
    pool.terminate_job(task.number, 15)
    pool.terminate_job(1, 15)
    assert calls == [task.number]
    result.terminate(15)  # Celery calls this too
    task.go.set()
    assert task.done.wait(CAP)
    ended = threading.Event()
    pool.apply_async(ended.set, callback=lambda _: None)  # in the same thread, so what was before it is over
    assert ended.wait(CAP)
    pool.terminate_job(task.number, 15)
    assert calls == [task.number]


def test_a_task_begins_once_the_one_before_has_left_the_device(
    pool: AttemptPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(module, "on_terminate", calls.append)
    first, second, third = Task(), Task(), Task()
    for task in (first, second, third):
        task.apply(pool)
    assert first.running.wait(CAP)
    assert pool.num_processes == 1
    assert not second.running.is_set()
    first.leave.set()
    assert second.running.wait(CAP)
    assert pool.num_processes == 2, "Celery reserves one more"
    pool.terminate_job(second.number, 15)
    pool.terminate_job(first.number, 15)
    assert calls == [second.number, first.number]
    second.leave.set()
    assert second.left.wait(CAP)
    assert pool.num_processes == 2
    assert not third.running.is_set(), "two at most"
    first.go.set()
    assert third.running.wait(CAP)
    second.go.set()
    assert second.done.wait(CAP)
    third.leave.set()
    third.go.set()
    assert third.done.wait(CAP)
    last = Task()
    last.apply(pool)
    assert last.running.wait(CAP)
    assert pool.num_processes == 1
    last.go.set()


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
