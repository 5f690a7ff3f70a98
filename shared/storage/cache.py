"""What of an object store lies on this host: complete folders, each known by a small file in `.index/`.

    .index/<key>     not empty: the folder surely is in the store; its time: when it was last used
                     flock: shared by whoever uses the folder, exclusive for whoever brings or removes it

A folder whose file is empty is work in progress and never removed to make room. Locks end with their process, so a
crash leaves nothing locked; any number of processes of a host may share the cache.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from urllib.parse import quote, unquote

from shared.fsync import fsync_folder
from shared.storage.s3_client import CancelCheck, never_cancelled

INDEX = ".index"
#: A folder that is being brought; whoever brings it next begins by removing it.
ASIDE = ".fetch-"
#: Between looks at a lock that is held (seconds).
_LOOK_SECONDS = 0.05


class CacheLease:
    """A folder that stays where it is until this is closed (or the process ends)."""

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path, self._descriptor = path, descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Entry:
    key: str
    bytes: int
    used_at: float


class Cache:
    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.root, self._index, self._limit = root, root / INDEX, limit_bytes

    # -- using ------------------------------------------------------------------------------------

    def hold(
        self,
        key: str,
        bring: Callable[[Path], None],
        is_sound: Callable[[Path], bool],
        cancel_check: CancelCheck = never_cancelled,
    ) -> CacheLease:
        """The folder `key`, as it is here, or brought by `bring(aside)` where it is not here or not sound."""
        while True:
            descriptor = self._lock(key, fcntl.LOCK_SH, cancel_check)
            if self._is_here(key, descriptor) and is_sound(self.root / key):
                os.utime(descriptor)
                return CacheLease(self.root / key, descriptor)
            os.close(descriptor)
            with self._alone(key, cancel_check) as descriptor:
                if not (self._is_here(key, descriptor) and is_sound(self.root / key)):
                    self._fetch(key, bring, descriptor)

    def _fetch(self, key: str, bring: Callable[[Path], None], descriptor: int) -> None:
        target = self.root / key
        aside = target.with_name(ASIDE + target.name)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            bring(aside)
            os.ftruncate(descriptor, 0)
            _remove(target)
            aside.rename(target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        fsync_folder(target.parent)
        _write(descriptor)

    def mark(self, key: str) -> None:
        """The folder is in the store now, so that it may go when room is needed."""
        descriptor = self._lock(key, fcntl.LOCK_SH, never_cancelled)
        try:
            if not os.fstat(descriptor).st_size:
                _write(descriptor)
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def busy(self, key: str) -> CacheLease:
        """Nobody removes what is left over in the folder `key` meanwhile (see `alone`)."""
        return CacheLease(self.root / key, self._lock(key, fcntl.LOCK_SH, never_cancelled))

    # -- removing ---------------------------------------------------------------------------------

    def drop(self, key: str) -> None:
        """Remove a folder that the store has, or had. One that is in use stays: room is made some other time."""
        with self.alone(key) as free:
            if free:
                _remove(self.root / key)
                self.forget(key)

    def trim(self, room: int = 0) -> int:
        """Remove those used longest ago until `room` bytes fit below the limit; returns how many."""
        entries = sorted(self._present(), key=lambda entry: entry.used_at)
        total, gone = sum(entry.bytes for entry in entries) + room, 0
        for entry in entries:
            if total <= self._limit:
                break
            self.drop(entry.key)
            if not self._path(entry.key).exists():
                total, gone = total - entry.bytes, gone + 1
        return gone

    def _present(self) -> list[Entry]:
        """Retention removes checkpoints without asking the index: what it says of those is forgotten here."""
        entries = self.entries()
        for entry in entries:
            if not (self.root / entry.key).exists():
                with self.alone(entry.key) as free:
                    if free and not (self.root / entry.key).exists():
                        self.forget(entry.key)
        return [entry for entry in entries if (self.root / entry.key).exists()]

    def entries(self) -> list[Entry]:
        """What the store has too."""
        found = []
        for path in self._index.glob("*") if self._index.is_dir() else ():
            with suppress(FileNotFoundError):
                status, key = path.stat(), unquote(path.name)
                if status.st_size:
                    found.append(Entry(key, size_of(self.root / key), status.st_mtime))
        return found

    def forget(self, key: str) -> None:
        """What the index says of a folder that is gone; only where nobody uses it (see `alone`)."""
        self._path(key).unlink(missing_ok=True)

    # -- locks ------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self._index / quote(key, safe="")

    def _is_here(self, key: str, descriptor: int) -> bool:
        return os.fstat(descriptor).st_size > 0 and (self.root / key).is_dir()

    def _lock(self, key: str, kind: int, cancel_check: CancelCheck) -> int:
        """A descriptor that holds the lock."""
        self._index.mkdir(parents=True, exist_ok=True)
        while (descriptor := _try(self._path(key), kind)) is None:
            cancel_check()
            sleep(_LOOK_SECONDS)
        return descriptor

    @contextmanager
    def _alone(self, key: str, cancel_check: CancelCheck) -> Iterator[int]:
        descriptor = self._lock(key, fcntl.LOCK_EX, cancel_check)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def alone(self, key: str) -> Iterator[bool]:
        """Whether nobody uses the folder; for as long as the block lasts, if so."""
        self._index.mkdir(parents=True, exist_ok=True)
        descriptor = _try(self._path(key), fcntl.LOCK_EX)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _try(path: Path, kind: int) -> int | None:
    """None: somebody else holds it, or has just removed the file we opened."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


def _write(descriptor: int) -> None:
    os.pwrite(descriptor, b"stored", 0)
    os.fsync(descriptor)


def _remove(folder: Path) -> None:
    """In one step for whoever looks."""
    gone = folder.with_name(f"{ASIDE}gone-{folder.name}")
    with suppress(FileNotFoundError):
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
