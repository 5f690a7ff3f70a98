"""Common code of maintenance services, which any number of processes may run at any time.

Each service is a module with `run_once(engine, settings) -> counts`. Its steps are short idempotent transactions, so
that running twice, at the same time, or being killed in the middle does no harm. Beat only triggers `run_all`.
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
    """A maintenance service with its least interval."""

    name: str
    run_once: Callable[[Engine, Settings], Counts]
    #: Least seconds between two runs of this process; 0: in every pass.
    every_seconds: float = 0.0
    _next: float = field(default=0.0, repr=False)

    def is_due(self, now: float) -> bool:
        """Return whether the service's interval has passed."""
        return now >= self._next

    def run(self, engine: Engine, settings: Settings) -> Counts | None:
        """Run the service and return its counts, or None if it failed.

        A failure ends neither the other services nor the process; the next pass tries again.
        """
        self._next = time.monotonic() + self.every_seconds
        started = time.perf_counter()
        try:
            counts = self.run_once(engine, settings)
        except Exception as error:
            emit("maintenance.failed", service=self.name, error=f"{type(error).__name__}: {error}")
            return None
        if any(counts.values()):
            took = round((time.perf_counter() - started) * 1000, 1)
            emit("maintenance.ran", service=self.name, milliseconds=took, **counts)
        return counts


_running = threading.Lock()


def run_services(services: Iterable[Service], engine: Engine, settings: Settings) -> dict[str, Counts]:
    """Run the services that are due, in order.

    Does nothing while another pass runs in this process.
    """
    if not _running.acquire(blocking=False):
        return {}
    try:
        counts_by_service: dict[str, Counts] = {}
        for service in services:
            counts = service.run(engine, settings) if service.is_due(time.monotonic()) else None
            if counts is not None:
                counts_by_service[service.name] = counts
        return counts_by_service
    finally:
        _running.release()
