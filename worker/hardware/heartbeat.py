"""Heartbeats of a worker in the fleet table. They are for people; jobs depend on leases."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Engine

from nightshift.errors import Unavailable
from shared.db.engine import write
from shared.events import emit
from shared.fleet import ledger
from shared.fleet.workers import Usage, WorkerInfo, deregister, describe, heartbeat, register


@dataclass(frozen=True)
class Activity:
    """What a worker does now. `left_because`: it left its device. `disk_full`: its disk has no room."""

    job_id: str | None = None
    draining: bool = False
    left_because: str | None = None
    disk_full: str | None = None


class WorkerHeartbeat:
    """A thread that registers the worker, renews that regularly and at changes, and deregisters at the end."""

    def __init__(
        self,
        engine: Engine,
        worker: Callable[[], WorkerInfo],
        seconds: float,
        current: Callable[[], Activity],
        usage: Callable[[], Usage],
    ) -> None:
        """Create the thread. The functions return the worker, what it does, and the load of its device.

        Of the worker only the frameworks that work on its device may change.
        """
        self._engine, self._seconds = engine, seconds
        self._worker, self._current, self._usage = worker, current, usage
        self._registered: WorkerInfo | None = None
        self._listening = True
        self._ending, self._has_ended = threading.Lock(), False
        #: Each change is written, in order, even if it was short. None: stop.
        self._changes: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def set_listening(self, complete: bool) -> None:
        """Note whether the worker consumes all its queues. Never blocks."""
        self._changes.put(complete)

    def tell(self) -> None:
        """Write what has changed soon. Never blocks."""
        self._changes.put(self._listening)

    def stop(self) -> None:
        """Stop the thread and deregister the worker, once; another call waits for the first."""
        with self._ending:
            if self._has_ended:
                return
            self._changes.put(None)
            if self._thread.is_alive():
                self._thread.join(self._seconds)
            self._write(lambda conn: deregister(conn, self._worker().name, self._worker().pid))
            self._has_ended = True

    def _run(self) -> None:
        while True:
            usage = self._usage()  # before the transaction, so that a slow driver holds no lock
            self._write(partial(self._register_or_renew, usage))
            try:
                change = self._changes.get(timeout=self._seconds)
            except queue.Empty:
                continue
            if change is None:
                return
            self._listening = change

    def _register_or_renew(self, usage: Usage, conn: Connection) -> None:
        worker = self._worker()
        if self._registered is None:
            _register(conn, worker)
        elif self._registered != worker:
            describe(conn, worker.name, worker.frameworks, worker.unusable)
        self._registered = worker
        if not self._heartbeat(conn, worker.name, usage):  # the row was removed
            _register(conn, worker)
            self._heartbeat(conn, worker.name, usage)

    def _heartbeat(self, conn: Connection, name: str, usage: Usage) -> bool:
        now = self._current()
        return heartbeat(
            conn,
            name,
            job_id=now.job_id,
            draining=now.draining,
            listening=self._listening,
            left_because=now.left_because,
            disk_full=now.disk_full,
            usage=usage,
        )

    def _write(self, action: Callable[[Connection], None]) -> None:
        try:
            with write(self._engine) as conn:
                action(conn)
        except Unavailable as error:
            emit("worker.unheard", worker=self._worker().name, error=str(error))


def _register(conn: Connection, worker: WorkerInfo) -> None:
    ledger.register(conn, worker)  # first: `ledger.forget`, too, locks devices before workers
    register(conn, worker)
