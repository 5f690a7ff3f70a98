"""The thread that writes an attempt's batches to the database, with heartbeats in between.

It is a separate thread because SQL may hang for minutes. Meanwhile the supervisor must suspend a runner whose lease
runs out, kill one that ignores a Stop, and keep reading its pipe. While the database is down the thread retries; only
a lost lease or a write that can never succeed ends it early.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from time import monotonic

from sqlalchemy import Connection, Engine

from shared.db.engine import write
from shared.errors import DatabaseUnavailable, LeaseLost
from shared.events import emit
from shared.jobs import transitions
from shared.jobs.transitions import AttemptStatus, Lease

#: Seconds between retries while the database is down.
RETRY_SECONDS = 0.5

Write = Callable[[Connection], AttemptStatus]


@dataclass(frozen=True)
class LeaseStatus:
    """The result of the last successful write and its start (monotonic), from which the lease runs at least."""

    status: AttemptStatus | None
    at: float

    def deadline(self) -> float | None:
        """Return the job's deadline on the monotonic clock."""
        if self.status is None or self.status.deadline_at is None:
            return None
        return self.at + self.status.deadline_at - self.status.now


class AttemptWriter:
    """Writes one batch at a time; `idle` tells whether the last one is done."""

    def __init__(
        self, engine: Engine, lease: Lease, heartbeat_seconds: float, claimed_at: float, wake: Callable[[], None]
    ) -> None:
        self._engine, self._lease, self._heartbeat = engine, lease, heartbeat_seconds
        self._wake = wake
        self._changed = threading.Condition()
        self._pending: Write | None = None
        self._urgent: deque[Write] = deque()
        self._closing = False
        self.renewal = LeaseStatus(None, claimed_at)
        self.lease_lost = False
        self.broken: BaseException | None = None  # a write that can never succeed
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name="attempt-writer", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether no submitted write is pending."""
        return self._pending is None

    def submit(self, write_: Write) -> None:
        """Submit a write; allowed only while idle."""
        with self._changed:
            self._pending = write_
            self._changed.notify_all()

    def submit_urgent(self, write_: Write) -> None:
        """Submit a write that runs before the pending one; allowed at any time."""
        with self._changed:
            self._urgent.append(write_)
            self._changed.notify_all()

    def close(self, timeout: float | None = None) -> bool:
        """Finish the pending writes and stop. Return False if that took longer than `timeout` (seconds)."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Drop the pending writes and stop, after a lost lease or at the end of a drain."""
        with self._changed:
            self._pending = None
            self._urgent.clear()
            self._closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if not self._try(job):
                return

    def _next(self) -> Write | None:
        """Return the pending write, or a renewal if a heartbeat is due; None if closed with nothing pending."""
        due = self.renewal.at + self._heartbeat
        with self._changed:
            self._changed.wait_for(lambda: self._next_write or self._closing, max(0.0, due - monotonic()))
            if self._next_write is None and self._closing:
                return None
            return self._next_write or self._renew

    @property
    def _next_write(self) -> Write | None:
        return self._urgent[0] if self._urgent else self._pending

    def _renew(self, conn: Connection) -> AttemptStatus:
        return transitions.renew(conn, self._lease)

    def _try(self, job: Write) -> bool:
        """Run the write. Return False if the thread must end."""
        begun = monotonic()
        try:
            with write(self._engine) as conn:
                status = job(conn)
        except DatabaseUnavailable as error:
            emit("attempt.waits_for_database", job_id=self._lease.job_id, error=str(error))
            with self._changed:
                self._changed.wait_for(lambda: self._closing and self._next_write is None, RETRY_SECONDS)
            return True
        except LeaseLost:
            self.lease_lost = True
        except BaseException as error:
            self.broken = error
        else:
            self.renewal = LeaseStatus(status, begun)
        with self._changed:
            if self._pending is job:
                self._pending = None
            elif self._urgent and self._urgent[0] is job:
                self._urgent.popleft()
        self._wake()
        return not (self.lease_lost or self.broken)
