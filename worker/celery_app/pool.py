"""The Celery pool of an attempt worker: one thread, so that it answers pings and revokes in training.

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


def _nothing() -> None:
    return None


#: Called by `terminate_job` and by the pool's stop. They are globals because Celery creates the pool.
on_terminate: Callable[[], None] = _nothing
on_stop: Callable[[], None] = _nothing


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
    """A pool of one thread that runs the supervisor."""

    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = 1
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="attempt")
        self._busy = threading.Event()
        self._wake = SelfPipe()

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
        self._busy.set()
        try:
            apply_target(target, args, kwargs, callback, accept)
        except BaseException as error:  # an error in Celery; the attempt itself is settled in SQL
            emit("worker.survived", error=repr(error))
        finally:
            self._busy.clear()
            self._wake()

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Cancel the job of the running attempt (`celery control terminate`, `revoke(terminate=True)`).

        `pid` is always the worker's own; there is one attempt at a time.
        """
        if self._busy.is_set():
            on_terminate()

    def on_stop(self) -> None:
        """Wait until the supervisor has released its job, at any shutdown."""
        on_stop()
        self._executor.shutdown(cancel_futures=True)

    def on_terminate(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "max-concurrency": 1, "processes": [os.getpid()]}
