"""The common skeleton of maintenance: services that any number of processes may run, as often as they like.

Each service is a module with `run_once(engine, settings) -> counts`; each of its steps is one short, idempotent
transaction, so that running twice, at the same time, or dying in the middle does no harm. Beat only pokes `run_all`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from shared.events import emit
from shared.settings import Settings

Counts = dict[str, int]


@dataclass
class Service:
    name: str
    run_once: Callable[[Engine, Settings], Counts]
    #: Least time between two runs of this process (seconds); 0: at every poke.
    every_seconds: float = 0.0
    _next: float = field(default=0.0, repr=False)

    def is_due(self, now: float) -> bool:
        return now >= self._next

    def run(self, engine: Engine, settings: Settings) -> Counts | None:
        """None: it failed, which ends neither the others nor the process; the next poke tries again."""
        self._next = time.monotonic() + self.every_seconds
        began = time.perf_counter()
        try:
            counts = self.run_once(engine, settings)
        except Exception as error:
            emit("maintenance.failed", service=self.name, error=f"{type(error).__name__}: {error}")
            return None
        if any(counts.values()):
            took = round((time.perf_counter() - began) * 1000, 1)
            emit("maintenance.ran", service=self.name, milliseconds=took, **counts)
        return counts


_running = threading.Lock()


def run_services(services: Iterable[Service], engine: Engine, settings: Settings) -> dict[str, Counts]:
    """Those that are due, in order. A poke that finds another one still at work in this process does nothing."""
    if not _running.acquire(blocking=False):
        return {}
    try:
        done: dict[str, Counts] = {}
        for service in services:
            counts = service.run(engine, settings) if service.is_due(time.monotonic()) else None
            if counts is not None:
                done[service.name] = counts
        return done
    finally:
        _running.release()
