"""The Celery pool of an attempt worker: a thread for the attempt on the device, and one for another that has left it.

They are threads, so that the worker answers pings and revokes in training.

Prefork takes 0.2 to 5 s to pick up the next task and its children may not have child processes. Here the forkserver
runs the process of an attempt, and the thread only waits for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from celery.concurrency.base import BasePool, apply_target

from shared.events import emit
from worker.supervisor.self_pipe import SelfPipe


def _nothing(*_: object) -> None:
    return None


#: Called by `terminate_job` (with the thread of the task) and by the pool's stop. They are globals because Celery
#: creates the pool.
on_terminate: Callable[[int], None] = _nothing
on_stop: Callable[[], None] = _nothing
_pools: set[AttemptPool] = set()


def free_device() -> None:
    """Let the pool take the next task: the one in this thread goes on without the device."""
    for pool in tuple(_pools):
        pool.free_device()


class Applied:
    """The result of `on_apply`. Celery keeps a weak reference to it.

    It may call `terminate`, but `terminate_job` has been called by then.
    """

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def terminate(self, signal: int) -> None:
        return None

    def get(self, timeout: float | None = None) -> None:
        return self._future.result(timeout)


class AttemptPool(BasePool):  # type: ignore[misc]
    """A pool that runs the supervisor: one task uses the device, and at most one more runs without it."""

    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = 1
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="attempt")
        self._device = threading.Lock()
        #: Threads that run a task, and those of them without the device.
        self._running: set[int] = set()
        self._finishing: set[int] = set()
        self._wake = SelfPipe()
        _pools.add(self)

    @property
    def num_processes(self) -> int:
        """Number of tasks that Celery may reserve now; it asks before it fetches each."""
        return 2 if self._finishing else 1

    def register_with_event_loop(self, loop: Any) -> None:
        """Wake Celery's loop at the end of an attempt.

        The loop sleeps up to a second and looks for the next message only when an event wakes it.
        """
        loop.add_reader(self._wake.fileno(), self._wake.clear)

    def on_apply(
        self, target: Any, args: Any = None, kwargs: Any = None, callback: Any = None, **options: Any
    ) -> Applied:
        accept = options.get("accept_callback")
        return Applied(self._executor.submit(self._apply, target, args, kwargs, callback, accept))

    def _apply(self, target: Any, args: Any, kwargs: Any, callback: Any, accept: Any) -> None:
        thread = threading.get_native_id()
        self._device.acquire()
        self._running.add(thread)
        try:
            # The number of the thread stands for the process that `terminate_job` gets.
            apply_target(target, args, kwargs, callback, accept, pid=thread)
        except BaseException as error:  # an error in Celery; the attempt itself is settled in SQL
            emit("worker.survived", error=repr(error))
        finally:
            self._running.discard(thread)
            if thread in self._finishing:
                self._finishing.discard(thread)
            else:
                self._device.release()
            self._wake()

    def free_device(self) -> None:
        """Let the next task begin, if the task in this thread has the device."""
        thread = threading.get_native_id()
        if thread in self._running - self._finishing:
            self._finishing.add(thread)
            self._device.release()
            self._wake()

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Cancel the job of a running attempt (`celery control terminate`, `revoke(terminate=True)`).

        `pid` is the number of its thread.
        """
        if pid in self._running:
            on_terminate(pid)

    def on_stop(self) -> None:
        """Wait until the supervisor has released its job, at any shutdown."""
        on_stop()
        self._executor.shutdown(cancel_futures=True)
        _pools.discard(self)

    def on_terminate(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "max-concurrency": 1, "processes": [os.getpid()]}
