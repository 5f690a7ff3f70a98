"""Interrupt a `select` from elsewhere (the self-pipe trick)."""

from __future__ import annotations

import contextlib
import os


class SelfPipe:
    """Ends a `select` when called, from any thread or signal handler."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def __call__(self) -> None:
        with contextlib.suppress(OSError):  # full: a wake-up is pending; closed: there is nothing to wake
            os.write(self._write, b"!")

    def fileno(self) -> int:
        """Return the descriptor to select on."""
        return self._read

    def clear(self) -> None:
        """Read pending wake-ups."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read)
        os.close(self._write)
