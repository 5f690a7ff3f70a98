"""The forkservers of a worker: each starts when a runner needs it, and ends after it was idle for long."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from shared.events import emit
from worker.runners.forkserver_client import START_SECONDS, ForkserverClient, ForkserverUnavailable


def _ignore(framework: str) -> None:
    return None


def _nothing() -> None:
    return None


class Forkservers:
    """Counts the users of each forkserver, and keeps an unused one for `idle_seconds` (0: as long as the worker)."""

    def __init__(self, clients: Mapping[str, ForkserverClient], idle_seconds: float = 0.0) -> None:
        self._clients, self._idle_seconds = dict(clients), idle_seconds
        #: Called with the framework before an idle forkserver ends, and with it the spare runner forked from it.
        self.on_end: Callable[[str], None] = _ignore
        #: Called after each change of `failed`.
        self.on_change: Callable[[], None] = _nothing
        for client in self._clients.values():
            client.on_change = self._on_change
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._timers: dict[str, threading.Timer] = {}
        self._closed = False

    @property
    def frameworks(self) -> list[str]:
        """Return the frameworks that this worker has, running or not."""
        return list(self._clients)

    def client(self, framework: str) -> ForkserverClient:
        """Return the client of a framework's forkserver."""
        return self._clients[framework]

    @property
    def warm(self) -> list[str]:
        """Return the frameworks whose next runner is forked at once."""
        return [name for name, client in self._clients.items() if client.is_ready]

    @property
    def failed(self) -> dict[str, str]:
        """Return the frameworks whose forkserver does not start, with the reason."""
        failed = {name: client.failed for name, client in self._clients.items()}
        return {name: f"it cannot be loaded: {reason}" for name, reason in failed.items() if reason is not None}

    def _on_change(self) -> None:
        self.on_change()

    def is_running(self, framework: str) -> bool:
        """Return whether a forkserver is warm or starts."""
        return self._clients[framework].is_running

    def begin(self, framework: str) -> None:
        """Count a user, and start the forkserver unless it runs. Does not wait until it is warm."""
        with self._lock:
            self._users[framework] += 1
            self._forget_timer(framework)
            self._clients[framework].start()

    def end(self, framework: str, keep: bool = True) -> None:
        """Count a user less; after the last one the forkserver ends when its idle time is over (`keep` off: now)."""
        with self._lock:
            self._users[framework] -= 1
            if self._users[framework] or self._closed:
                return
            if not keep:
                self._end_idle(framework)
            elif self._idle_seconds:
                timer = threading.Timer(self._idle_seconds, partial(self._on_timer, framework))
                timer.daemon = True
                self._forget_timer(framework)
                self._timers[framework] = timer
                timer.start()

    def warm_up(self, framework: str, is_wanted: Callable[[], bool], report: Callable[[str], None]) -> None:
        """Start a forkserver unless it runs, and wait until it is warm; `report` is called if that takes time.

        Raises ForkserverUnavailable, also when the wait is not wanted any more, and what `is_wanted` raises.
        """
        client = self._clients[framework]
        self.begin(framework)
        try:
            if client.is_ready:
                return
            report(framework)
            if not client.wait_ready(START_SECONDS, is_wanted):
                stopped = f"the attempt was asked to stop before the {framework} forkserver was warm"
                raise ForkserverUnavailable(client.why_cold() if is_wanted() else stopped)
        finally:
            self.end(framework)

    def close(self) -> None:
        """End all forkservers with their runners, for good."""
        with self._lock:
            self._closed = True
            for framework in self._clients:
                self._forget_timer(framework)
        for client in self._clients.values():
            client.close()

    def _on_timer(self, framework: str) -> None:
        with self._lock:
            # A timer that was forgotten while it waited for the lock is not the present one.
            if self._timers.get(framework) is threading.current_thread() and not self._closed:
                self._end_idle(framework)

    def _end_idle(self, framework: str) -> None:
        """End a forkserver that has no user."""
        self._forget_timer(framework)
        if not self._clients[framework].is_running:
            return
        self.on_end(framework)
        self._clients[framework].stop()
        emit("forkserver.ended_idle", framework=framework)

    def _forget_timer(self, framework: str) -> None:
        if (timer := self._timers.pop(framework, None)) is not None:
            timer.cancel()
