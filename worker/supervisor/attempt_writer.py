"""The thread that writes for an attempt: batches of what the runner said, and heartbeats in between.

It is a thread of its own because SQL may hang for minutes, and the supervisor must meanwhile freeze a runner whose
lease runs out, kill one that ignores a Stop, and keep reading its pipe. A database that does not answer makes it wait
and try again; only a lost lease ends it early.
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

#: Between tries at a database that does not answer (seconds).
RETRY_SECONDS = 0.5

Write = Callable[[Connection], AttemptStatus]


@dataclass(frozen=True)
class LeaseStatus:
    """What the last write that went through said, and when it began (monotonic): the lease runs from there at least."""

    standing: AttemptStatus | None
    at: float

    def deadline(self) -> float | None:
        """The job's deadline on the monotonic clock."""
        if self.standing is None or self.standing.deadline_at is None:
            return None
        return self.at + self.standing.deadline_at - self.standing.now


class AttemptWriter:
    """One write at a time: `idle` says whether the last one went through."""

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
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="scribe", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def idle(self) -> bool:
        return self._pending is None

    def put(self, write_: Write) -> None:
        """Only while idle."""
        with self._changed:
            self._pending = write_
            self._changed.notify_all()

    def submit_urgent(self, write_: Write) -> None:
        """At any time: before whatever is pending."""
        with self._changed:
            self._urgent.append(write_)
            self._changed.notify_all()

    def close(self, timeout: float | None = None) -> bool:
        """Finish the write at hand and stop. False: it has not gone through within `timeout`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Stop without the write at hand; for a lease that is lost or a worker that has no more time."""
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
        """The pending write, or a renewal when a heartbeat is due; None when closed with nothing pending."""
        due = self.renewal.at + self._heartbeat
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing, max(0.0, due - monotonic()))
            if self._waiting is None and self._closing:
                return None
            return self._waiting or self._renew

    @property
    def _waiting(self) -> Write | None:
        return self._urgent[0] if self._urgent else self._pending

    def _renew(self, conn: Connection) -> AttemptStatus:
        return transitions.renew(conn, self._lease)

    def _try(self, job: Write) -> bool:
        """True to go on."""
        begun = monotonic()
        try:
            with write(self._engine) as conn:
                standing = job(conn)
        except DatabaseUnavailable as error:
            emit("attempt.waits_for_database", job_id=self._lease.job_id, error=str(error))
            with self._changed:
                self._changed.wait_for(lambda: self._closing and self._waiting is None, RETRY_SECONDS)
            return True
        except LeaseLost:
            self.lease_lost = True
        except BaseException as error:
            self.broken = error
        else:
            self.renewal = LeaseStatus(standing, begun)
        with self._changed:
            if self._pending is job:
                self._pending = None
            elif self._urgent and self._urgent[0] is job:
                self._urgent.popleft()
        self._wake()
        return not (self.lease_lost or self.broken)
