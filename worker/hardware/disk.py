"""Free space of this host's disk."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shared.events import emit

#: A worker with less free space claims no jobs (bytes). Too low: it claims jobs that fail at their first file.
#: Too high: a small disk is not used.
LEAST_FREE_BYTES = 10_000_000


def _nothing() -> None:
    return None


class DiskSpace:
    """Whether the disk of a worker's folder has room for a job, as of the last look."""

    def __init__(self, worker: str, folder: Path) -> None:
        self._worker, self._folder = worker, folder
        self._lock = threading.Lock()
        #: Called after a look that found the disk full, or no longer full.
        self.on_change: Callable[[], None] = _nothing
        #: Why the worker takes no jobs; None: there is room.
        self.full_because: str | None = None

    def is_full(self) -> bool:
        """Look at the disk. One that does not say its free space stays what it was."""
        with self._lock:
            was_full = self.full_because is not None
            with suppress(OSError):
                self._look(was_full)
            is_full = self.full_because is not None
        if is_full != was_full:
            self.on_change()
        return is_full

    def _look(self, was_full: bool) -> None:
        free = free_bytes(self._folder)
        self.full_because = _reason(free, self._folder) if free < LEAST_FREE_BYTES else None
        if was_full != (self.full_because is not None):
            event = "worker.disk_has_room" if was_full else "worker.disk_full"
            emit(event, worker=self._worker, free_bytes=free)


def _reason(free: int, folder: Path) -> str:
    return f"{free / 1e6:.1f} MB of the disk of {folder} are free; {LEAST_FREE_BYTES / 1e6:.0f} MB are the least"


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that a folder is on, or will be on."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
