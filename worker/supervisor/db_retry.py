"""Retries while the database is down, until it makes no sense to wait."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from time import sleep
from typing import TypeVar

from sqlalchemy import Connection, Engine

from shared.db.engine import read, write
from shared.errors import DatabaseUnavailable, LeaseLost
from worker.supervisor.attempt_writer import RETRY_SECONDS, AttemptWriter

T = TypeVar("T")

#: Seconds that a drain waits for the database after its runner ended.
SETTLE_SECONDS = 5.0


class DrainTimeout(Exception):
    """The worker must exit and the database is still down. The rescuer will take back the job."""


class DatabaseRetry:
    """Retries until the database answers; ends at a lost lease or the end of a drain.

    The attempt writer keeps sending heartbeats meanwhile.
    """

    def __init__(
        self, engine: Engine, writer: AttemptWriter, lease_lost: LeaseLost, time_left: Callable[[], float | None]
    ):
        self._engine, self._writer, self._lease_lost, self._time_left = engine, writer, lease_lost, time_left

    def write(self, action: Callable[[Connection], T]) -> T:
        """Run the action in a write transaction."""
        return self.wait(lambda: _within(write(self._engine), action))

    def read(self, action: Callable[[Connection], T]) -> T:
        """Run the action in a read transaction."""
        return self.wait(lambda: _within(read(self._engine), action))

    def wait(self, action: Callable[[], T]) -> T:
        """Run the action until it does not raise DatabaseUnavailable."""
        while True:
            try:
                return action()
            except DatabaseUnavailable:
                self.check()
                sleep(RETRY_SECONDS)

    def close_writer(self) -> None:
        """Close the attempt writer after its last write."""
        while not self._writer.close(RETRY_SECONDS):
            self.check()
        self.check()

    def check(self) -> None:
        """Raise LeaseLost or DrainTimeout if there is no reason to wait any longer."""
        if self._writer.lease_lost:
            raise self._lease_lost
        left = self._time_left()
        if left is not None and left <= -SETTLE_SECONDS:
            raise DrainTimeout


def _within(transaction: AbstractContextManager[Connection], action: Callable[[Connection], T]) -> T:
    with transaction as conn:
        return action(conn)
