"""The lock of a device: a flock'd file that a runner and everything it forks holds as long as any of them lives.

The lock belongs to the open file, not to a process: the worker takes it, hands the file to the runner with the fork and
closes its own copy. So an orphan, whatever became of its worker, keeps the device to itself, and the next runner waits.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import psutil

from nightshift.errors import ConfigurationError, Unavailable
from shared.settings import Settings
from worker.hardware.devices import Device
from worker.runners.process_cleanup import kill_orphans

#: Between looks at a lock that is held (seconds).
LOOK_SECONDS = 0.1


class DeviceBusy(Unavailable):
    """Somebody else still holds the device."""

    def __init__(self, path: Path, pids: list[int]) -> None:
        who = f"process {', '.join(map(str, pids))}" if pids else "a process that cannot be seen from here"
        super().__init__(f"the device is still held by {who} (lock {path})")
        self.pids = pids


@dataclass(frozen=True)
class DeviceLock:
    path: Path

    @classmethod
    def of(cls, device: Device, settings: Settings) -> DeviceLock:
        """A GPU by its uuid, whoever uses it from whichever container; a CPU worker's place by host and number.
        Raises ConfigurationError."""
        name = device.uuid or f"{settings.host_name}-{device.kind}{device.index}"
        folder = settings.lock_dir or settings.data_dir.resolve() / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            slot = cls(folder / f"{name.replace(os.sep, '_')}.lock")
            os.close(slot._open())
        except OSError as error:
            raise ConfigurationError(f"NIGHTSHIFT_LOCK_DIR: no lock can be made in {folder}: {error}") from error
        return slot

    def take(self) -> int:
        """A descriptor that holds the lock until its last copy, in whatever process, is closed. Raises SlotBusy."""
        descriptor = self._try()
        if descriptor is None:
            raise DeviceBusy(self.path, self.holders())
        return descriptor

    def wait(self, seconds: float, worthwhile: Callable[[], bool], tell: Callable[[DeviceBusy], None]) -> int:
        """The same, after waiting so long at most, as long as it is `worthwhile`. What dead workers left behind is
        ended; anybody else is waited for, which `tell` is told of once. Raises SlotBusy."""
        if (descriptor := self._try()) is not None:
            return descriptor
        kill_orphans(str(self.path))
        give_up, told = monotonic() + seconds, False
        while (descriptor := self._try()) is None:
            if not told:
                tell(DeviceBusy(self.path, self.holders()))
                told = True
            if monotonic() > give_up or not worthwhile():
                raise DeviceBusy(self.path, self.holders())
            sleep(LOOK_SECONDS)
        return descriptor

    def _try(self) -> int | None:
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def holders(self) -> list[int]:
        """Processes that have the file open, as far as this one may look. For people: nothing is decided by it."""
        path = str(self.path.resolve())
        return sorted(process.pid for process in psutil.process_iter() if _has_open(process, path))


def _has_open(process: psutil.Process, path: str) -> bool:
    with suppress(psutil.Error):  # it ended meanwhile, or is somebody else's
        return process.pid != os.getpid() and any(file.path == path for file in process.open_files())
    return False
