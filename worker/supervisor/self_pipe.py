"""Ends a wait for events from elsewhere."""

from __future__ import annotations

import contextlib
import os


class SelfPipe:
    """Ends a `select` from another thread, or from a signal handler."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def __call__(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it is over
            os.write(self._write, b"!")

    def fileno(self) -> int:
        return self._read

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)
