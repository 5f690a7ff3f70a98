"""Writers of one process take turns at SQLite, which has one write lock.

SQLite lets waiting writers sleep up to 100 ms between looks at its lock; a lock of our own hands the turn on at once.
With other processes the file's lock decides. When whoever has the turn finds that lock held for too long, all that wait
for the turn fail with it: each of them would wait as long for nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import DatabaseLocked


class WriteLock:
    """`take()` from any number of threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._found_locked = 0
        #: Threads that wait for their turn.
        self.waiting = 0

    @contextmanager
    def take(self, seconds: float) -> Iterator[None]:
        """Wait for the turn at most so long. Raises DatabaseLocked."""
        self._wait(seconds)
        try:
            yield
        except DatabaseLocked:
            self._release(locked=True)
            raise
        except BaseException:
            self._release()
            raise
        self._release()

    def _wait(self, seconds: float) -> None:
        with self._changed:
            seen, self.waiting = self._found_locked, self.waiting + 1
            try:
                self._changed.wait_for(lambda: not self._taken or self._found_locked != seen, seconds)
            finally:
                self.waiting -= 1
            if self._taken or self._found_locked != seen:
                raise DatabaseLocked("the database does not answer: another writer holds it")
            self._taken = True

    def _release(self, *, locked: bool = False) -> None:
        with self._changed:
            self._taken = False
            if locked:
                self._found_locked += 1
                self._changed.notify_all()
            else:
                self._changed.notify()
