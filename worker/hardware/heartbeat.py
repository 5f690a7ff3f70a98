"""Heartbeats of a worker in the fleet table. They are for people; jobs depend on leases."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, Engine

from nightshift.errors import Unavailable
from shared.db.engine import write
from shared.events import emit
from shared.fleet.workers import Usage, WorkerInfo, deregister, heartbeat, register


class WorkerHeartbeat:
    """A thread that registers the worker, renews that regularly and at changes, and deregisters at the end."""

    def __init__(
        self,
        engine: Engine,
        worker: WorkerInfo,
        seconds: float,
        current: Callable[[], tuple[str | None, bool]],
        usage: Callable[[], Usage],
    ) -> None:
        """Create the thread. `current` returns (job id, draining); `usage` returns the load of the device."""
        self._engine, self._worker, self._seconds = engine, worker, seconds
        self._current, self._usage = current, usage
        self._registered = False
        self._listening = True
        #: Each change is written, in order, even if it was short. None: stop.
        self._changes: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def set_listening(self, complete: bool) -> None:
        """Note whether the worker consumes all its queues. Never blocks."""
        self._changes.put(complete)

    def stop(self) -> None:
        """Stop the thread and deregister the worker."""
        self._changes.put(None)
        if self._thread.is_alive():
            self._thread.join(self._seconds)
        self._write(lambda conn: deregister(conn, self._worker.name, self._worker.pid))

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
        if not self._registered:
            register(conn, self._worker)
            self._registered = True
        if not self._heartbeat(conn, usage):  # the row was removed
            register(conn, self._worker)
            self._heartbeat(conn, usage)

    def _heartbeat(self, conn: Connection, usage: Usage) -> bool:
        job_id, draining = self._current()
        name, listening = self._worker.name, self._listening
        return heartbeat(conn, name, job_id=job_id, draining=draining, listening=listening, usage=usage)

    def _write(self, action: Callable[[Connection], None]) -> None:
        try:
            with write(self._engine) as conn:
                action(conn)
        except Unavailable as error:
            emit("worker.unheard", worker=self._worker.name, error=str(error))
