"""The lock of a device: a flock'd file, held as long as a runner or any of its descendants lives.

The lock belongs to the open file, not to a process: the worker takes it, passes the descriptor to the runner with the
assignment and closes its own copy. An orphan keeps the device even if its worker is dead, and the next runner waits.
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

#: Poll interval of a lock that is held (seconds).
LOOK_SECONDS = 0.1


class DeviceBusy(Unavailable):
    """Another process still holds the device."""

    def __init__(self, path: Path, pids: list[int]) -> None:
        who = f"process {', '.join(map(str, pids))}" if pids else "a process that cannot be seen from here"
        super().__init__(f"the device is still held by {who} (lock {path})")
        self.pids = pids


@dataclass(frozen=True)
class DeviceLock:
    """The lock file of one device."""

    path: Path

    @classmethod
    def of(cls, device: Device, settings: Settings) -> DeviceLock:
        """Return the lock of a GPU (by UUID, also across containers) or of a CPU worker (by host and index).

        Raises ConfigurationError.
        """
        return cls.of_id(device.uuid or device.worker_name(settings.host_name), settings)

    @classmethod
    def of_id(cls, device_id: str, settings: Settings) -> DeviceLock:
        """Return the lock of a device by its id in the ledger. Raises ConfigurationError."""
        slot, _, host = device_id.partition("@")
        name = f"{host}-{slot}" if host else device_id
        folder = settings.lock_dir or settings.data_dir.resolve() / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = cls(folder / f"{name.replace(os.sep, '_')}.lock")
            os.close(lock._open())
        except OSError as error:
            raise ConfigurationError(f"NIGHTSHIFT_LOCK_DIR: no lock can be made in {folder}: {error}") from error
        return lock

    @property
    def suspicion(self) -> Path:
        """The file that is there while a gang's worker found that the device fails, and its own has not tried it."""
        return self.path.with_suffix(".suspected")

    def take(self) -> int:
        """Return a descriptor that holds the lock until its last copy in any process is closed. Raises DeviceBusy."""
        descriptor = self._try()
        if descriptor is None:
            raise DeviceBusy(self.path, self.holders())
        return descriptor

    def wait(self, seconds: float, is_wanted: Callable[[], bool], report: Callable[[DeviceBusy], None]) -> int:
        """Like `take`, but wait up to `seconds` while `is_wanted()`. Raises DeviceBusy.

        Orphans of dead workers are killed. For other holders `report` is called once.
        """
        if (descriptor := self._try()) is not None:
            return descriptor
        kill_orphans(str(self.path), self.holders())
        give_up, reported = monotonic() + seconds, False
        while (descriptor := self._try()) is None:
            if not reported:
                report(DeviceBusy(self.path, self.holders()))
                reported = True
            if monotonic() > give_up or not is_wanted():
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
        """Return the pids that have the file open and are visible here; only for messages."""
        path = str(self.path.resolve())
        return sorted(process.pid for process in psutil.process_iter() if _has_open(process, path))


def _has_open(process: psutil.Process, path: str) -> bool:
    with suppress(psutil.Error):  # it ended meanwhile, or belongs to another user
        return process.pid != os.getpid() and any(file.path == path for file in process.open_files())
    return False
