"""Interrupt a `select` from elsewhere (the self-pipe trick)."""

from __future__ import annotations

import contextlib
import os
import threading


class SelfPipe:
    """Ends a `select` when called, from any thread or signal handler."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        # The number of a closed descriptor may be that of another file by now. Reentrant, for signal handlers.
        self._lock = threading.RLock()
        self._is_closed = False

    def __call__(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):  # full: a wake-up is pending
            if not self._is_closed:
                os.write(self._write, b"!")

    def fileno(self) -> int:
        """Return the descriptor to select on."""
        return self._read

    def clear(self) -> None:
        """Read pending wake-ups."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def close(self) -> None:
        """Close both ends; later calls do nothing."""
        with self._lock:
            self._is_closed = True
            os.close(self._read)
            os.close(self._write)
