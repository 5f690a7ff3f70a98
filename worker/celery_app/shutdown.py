"""Ends a worker that has given its job back, also while Redis does not answer.

Celery leaves Redis in a dozen requests. While Redis hangs, each waits for its timeout, with retries, for more than a
minute together, although nothing in Redis is needed any more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from shared.events import emit

#: Seconds that Celery has to leave Redis after the last attempt. Too low: Flower shows a worker that has stopped as
#: online. Too high: a stop takes long while Redis hangs.
LEAVE_SECONDS = 5.0


class Shutdown:
    """Deregisters a draining worker after its last attempt, and exits if Celery then does not leave Redis in time."""

    def __init__(
        self, wait_idle: Callable[[], None], deregister: Callable[[], None], close: Callable[[], None]
    ) -> None:
        """Create it. The functions wait for the last attempt, deregister the worker, and end its processes."""
        self._wait_idle, self._deregister, self._close = wait_idle, deregister, close
        self._has_left = threading.Event()

    def begin(self) -> None:
        """Start the thread that does it. The worker drains already."""
        threading.Thread(target=self._run, name="shutdown", daemon=True).start()

    def celery_has_left(self) -> None:
        """Note that Celery has stopped: the main thread goes on to the end."""
        self._has_left.set()

    def _run(self) -> None:
        self._wait_idle()
        self._deregister()  # first, so that the worker is seen to be gone whatever Redis does
        if self._has_left.wait(LEAVE_SECONDS):
            return
        emit("worker.broker_left_behind", seconds=LEAVE_SECONDS)
        self._close()
        os._exit(0)
