"""A lock of this process's writers to SQLite, which has a single write lock.

SQLite lets waiting writers sleep up to 100 ms between polls of its lock; this lock is passed on at once. Between
processes SQLite's lock decides. If the holder of this lock times out on SQLite's lock, all waiting threads fail too:
each of them would only wait for the same timeout.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import DatabaseLocked


class WriteLock:
    """Lock with a timeout for any number of threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._found_locked = 0
        #: Number of waiting threads.
        self.waiting = 0

    @contextmanager
    def take(self, seconds: float | None) -> Iterator[None]:
        """Hold the lock; wait for it for at most `seconds` (None: for ever). Raises DatabaseLocked."""
        self._wait(seconds)
        locked = False
        try:
            yield
        except DatabaseLocked:
            locked = True
            raise
        finally:
            self._release(locked=locked)

    def is_mine(self) -> bool:
        """Return whether the calling thread holds the lock."""
        return self._owner == threading.get_ident()

    def _wait(self, seconds: float | None) -> None:
        with self._changed:
            seen, self.waiting = self._found_locked, self.waiting + 1

            def fails() -> bool:
                return seconds is not None and self._found_locked != seen

            try:
                self._changed.wait_for(lambda: self._owner is None or fails(), seconds)
            finally:
                self.waiting -= 1
            if self._owner is not None or fails():
                raise DatabaseLocked("the database does not answer: another writer holds it")
            self._owner = threading.get_ident()

    def _release(self, *, locked: bool) -> None:
        with self._changed:
            self._owner = None
            if locked:
                self._found_locked += 1
                self._changed.notify_all()
            else:
                self._changed.notify()
