"""Tells the fleet table that this worker is here. Nothing depends on it but what people see: jobs hang on leases."""

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
    """A thread that registers, says so again every heartbeat and at each change, and deregisters at the end."""

    def __init__(
        self,
        engine: Engine,
        worker: WorkerInfo,
        seconds: float,
        doing: Callable[[], tuple[str | None, bool]],
        usage: Callable[[], Usage],
    ) -> None:
        """`doing`: (job id, draining) of now; `usage`: how busy the device is."""
        self._engine, self._worker, self._seconds = engine, worker, seconds
        self._doing, self._usage = doing, usage
        self._registered = False
        self._listening = True
        #: Each is told, in order, however short it lasted. None: stop.
        self._changes: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def listens(self, complete: bool) -> None:
        """Whether the worker consumes all its queues, from now on. Never blocks."""
        self._changes.put(complete)

    def stop(self) -> None:
        self._changes.put(None)
        if self._thread.is_alive():
            self._thread.join(self._seconds)
        self._tell(lambda conn: deregister(conn, self._worker.name, self._worker.pid))

    def _run(self) -> None:
        while True:
            usage = self._usage()  # before the transaction: a slow driver must not hold a lock
            self._tell(partial(self._say, usage))
            try:
                change = self._changes.get(timeout=self._seconds)
            except queue.Empty:
                continue
            if change is None:
                return
            self._listening = change

    def _say(self, usage: Usage, conn: Connection) -> None:
        if not self._registered:
            register(conn, self._worker)
            self._registered = True
        if not self._heartbeat(conn, usage):  # somebody removed the row
            register(conn, self._worker)
            self._heartbeat(conn, usage)

    def _heartbeat(self, conn: Connection, usage: Usage) -> bool:
        job_id, draining = self._doing()
        name, listening = self._worker.name, self._listening
        return heartbeat(conn, name, job_id=job_id, draining=draining, listening=listening, usage=usage)

    def _tell(self, say: Callable[[Connection], None]) -> None:
        try:
            with write(self._engine) as conn:
                say(conn)
        except Unavailable as error:
            emit("worker.unheard", worker=self._worker.name, error=str(error))
