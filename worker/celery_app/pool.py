"""The Celery pool of an attempt worker: one thread, so that the worker answers pings and revokes while it trains.

Prefork takes 0.2 to 5 s to pick up the next task and forbids its children children; here the process of an attempt is
the forkserver's business, and the thread only waits for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from celery.concurrency.base import BasePool, apply_target

from shared.events import emit


def _nothing() -> None:
    return None


#: What `terminate_job` and the pool's stop call. A process has one supervisor; Celery creates the pool, so it is told
#: here.
on_terminate: Callable[[], None] = _nothing
on_stop: Callable[[], None] = _nothing


class Applied:
    """Celery keeps a weak reference to this and may ask it to terminate; `terminate_job` has done so by then."""

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def terminate(self, signal: int) -> None:
        return None

    def get(self, timeout: float | None = None) -> None:
        return self._future.result(timeout)


class AttemptPool(BasePool):  # type: ignore[misc]
    body_can_be_buffer = True
    signal_safe = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = 1
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="attempt")
        self._busy = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def register_with_event_loop(self, loop: Any) -> None:
        """Celery's loop sleeps up to a second and looks for the next message only when something wakes it; the end of
        an attempt must."""
        loop.add_reader(self._wake_read, self._on_wake)

    def _on_wake(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return

    def on_apply(
        self, target: Any, args: Any = None, kwargs: Any = None, callback: Any = None, **options: Any
    ) -> Applied:
        accept = options.get("accept_callback")
        return Applied(self._executor.submit(self._apply, target, args, kwargs, callback, accept))

    def _apply(self, target: Any, args: Any, kwargs: Any, callback: Any, accept: Any) -> None:
        self._busy.set()
        try:
            apply_target(target, args, kwargs, callback, accept)
        except BaseException as error:  # Celery's bookkeeping failed; the attempt itself is settled in SQL
            emit("worker.survived", error=repr(error))
        finally:
            self._busy.clear()
            os.write(self._wake_write, b"!")

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """`celery control terminate`, `revoke(terminate=True)`: the attempt's job is cancelled gracefully. `pid` is the
        worker's own, whatever the task; there is one at a time."""
        if self._busy.is_set():
            on_terminate()

    def on_stop(self) -> None:
        """Shutdown, asked for or not: wait until the supervisor has given its job back."""
        on_stop()
        self._executor.shutdown(cancel_futures=True)

    def on_terminate(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "max-concurrency": 1, "processes": [os.getpid()]}
