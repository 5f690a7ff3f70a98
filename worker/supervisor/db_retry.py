"""Waiting for a database that does not answer, and when to stop waiting."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from typing import TypeVar

from sqlalchemy import Connection, Engine

from shared.db.engine import read, write
from shared.errors import DatabaseUnavailable, LeaseLost
from worker.supervisor.attempt_writer import RETRY_SECONDS, AttemptWriter

T = TypeVar("T")

#: What a drain still waits for the database after its runner is gone (seconds).
SETTLE_SECONDS = 5.0


class DrainTimeout(Exception):
    """The worker must leave and the database still does not answer: the rescuer will find the job."""


class DatabaseRetry:
    """Until the database answers. The scribe's heartbeat goes on meanwhile; a lost lease or the end of a drain ends
    it."""

    def __init__(
        self, engine: Engine, scribe: AttemptWriter, lease_lost: LeaseLost, time_left: Callable[[], float | None]
    ):
        self._engine, self._scribe, self._lease_lost, self._time_left = engine, scribe, lease_lost, time_left

    def write(self, action: Callable[[Connection], T]) -> T:
        def once() -> T:
            with write(self._engine) as conn:
                return action(conn)

        return self.wait(once)

    def read(self, action: Callable[[Connection], T]) -> T:
        def once() -> T:
            with read(self._engine) as conn:
                return action(conn)

        return self.wait(once)

    def wait(self, action: Callable[[], T]) -> T:
        while True:
            try:
                return action()
            except DatabaseUnavailable:
                self.check()
                sleep(RETRY_SECONDS)

    def close_writer(self) -> None:
        """Until its last write went through."""
        while not self._scribe.close(RETRY_SECONDS):
            self.check()
        self.check()

    def check(self) -> None:
        """Raises LeaseLost or OutOfTime when there is nothing to wait for any more."""
        if self._scribe.lease_lost:
            raise self._lease_lost
        left = self._time_left()
        if left is not None and left <= -SETTLE_SECONDS:
            raise DrainTimeout
