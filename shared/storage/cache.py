"""Cache of an object store on this host: complete folders, each with an index file in `.index/`.

    .index/<key>     not empty: the folder is in the store; modification time: its last use
                     flock: shared while the folder is used, exclusive while it is downloaded or removed

A folder whose index file is empty is work in progress and never evicted. Locks end with their process, so a crash
leaves nothing locked; any number of processes of a host may share the cache.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from shared.folders import remove_folder
from shared.fsync import fsync_folder
from shared.storage.s3_client import CancelCheck, never_cancelled

INDEX = ".index"
#: Prefix of a folder that is being downloaded; the next download of it removes a leftover first.
STAGING = ".fetch-"
#: Poll interval for a lock that is held (seconds).
_POLL_SECONDS = 0.05


class CacheLease:
    """A folder that is not removed until this is closed or the process ends."""

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path, self._descriptor = path, descriptor

    def close(self) -> None:
        """Release the lock; idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Entry:
    """A cached folder that is in the store too."""

    key: str
    bytes: int
    used_at: float


class Cache:
    """Folders of an object store below `root`, evicted by least recent use above `limit_bytes`."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.root, self._index, self._limit = root, root / INDEX, limit_bytes

    # -- using ------------------------------------------------------------------------------------

    def hold(
        self,
        key: str,
        fetch: Callable[[Path], None],
        is_sound: Callable[[Path], bool],
        cancel_check: CancelCheck = never_cancelled,
    ) -> CacheLease:
        """Return the folder `key`, downloaded by `fetch(staging)` if it is missing or not sound."""
        while True:
            descriptor = self._lock(key, fcntl.LOCK_SH, cancel_check)
            if self._is_here(key, descriptor) and is_sound(self.root / key):
                os.utime(descriptor)
                return CacheLease(self.root / key, descriptor)
            os.close(descriptor)
            with self._locked(key, fcntl.LOCK_EX, cancel_check) as descriptor:
                if not (self._is_here(key, descriptor) and is_sound(self.root / key)):
                    self._fetch(key, fetch, descriptor)

    def _fetch(self, key: str, fetch: Callable[[Path], None], descriptor: int) -> None:
        target = self.root / key
        staging = target.with_name(STAGING + target.name)
        remove_folder(staging)
        staging.mkdir(parents=True)
        try:
            fetch(staging)
            os.ftruncate(descriptor, 0)
            _remove(target)
            staging.rename(target)
        except BaseException:
            remove_folder(staging)
            raise
        fsync_folder(target.parent)
        _write(descriptor)

    def mark(self, key: str) -> None:
        """Record that the folder is in the store, so it may be evicted."""
        with self._locked(key, fcntl.LOCK_SH) as descriptor:
            if not os.fstat(descriptor).st_size:
                _write(descriptor)
            os.utime(descriptor)

    def lock_shared(self, key: str) -> CacheLease:
        """Hold a shared lock on the folder `key`, so that no process cleans it up (see `try_exclusive`)."""
        return CacheLease(self.root / key, self._lock(key, fcntl.LOCK_SH, never_cancelled))

    # -- removing ---------------------------------------------------------------------------------

    def drop(self, key: str) -> None:
        """Remove a folder that is or was in the store, unless it is in use."""
        with self.try_exclusive(key) as free:
            if free:
                _remove(self.root / key)
                self.forget(key)

    def trim(self, room: int = 0) -> int:
        """Evict the least recently used until `room` bytes fit below the limit; return the number evicted."""
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
        """Return the existing entries, and forget others: retention removes checkpoints without the index."""
        entries = self.entries()
        for entry in entries:
            if not (self.root / entry.key).exists():
                with self.try_exclusive(entry.key) as free:
                    if free and not (self.root / entry.key).exists():
                        self.forget(entry.key)
        return [entry for entry in entries if (self.root / entry.key).exists()]

    def entries(self) -> list[Entry]:
        """Return the folders that are in the store too."""
        found = []
        for path in self._index.glob("*") if self._index.is_dir() else ():
            with suppress(FileNotFoundError):
                status, key = path.stat(), unquote(path.name)
                if status.st_size:
                    found.append(Entry(key, size_of(self.root / key), status.st_mtime))
        return found

    def forget(self, key: str) -> None:
        """Remove the index file of a folder that no longer exists; only under `try_exclusive`."""
        self._path(key).unlink(missing_ok=True)

    # -- locks ------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self._index / quote(key, safe="")

    def _is_here(self, key: str, descriptor: int) -> bool:
        return os.fstat(descriptor).st_size > 0 and (self.root / key).is_dir()

    def _lock(self, key: str, kind: int, cancel_check: CancelCheck) -> int:
        """Return a descriptor that holds the lock."""
        self._index.mkdir(parents=True, exist_ok=True)
        while (descriptor := _try(self._path(key), kind)) is None:
            cancel_check()
            time.sleep(_POLL_SECONDS)
        return descriptor

    @contextmanager
    def _locked(self, key: str, kind: int, cancel_check: CancelCheck = never_cancelled) -> Iterator[int]:
        descriptor = self._lock(key, kind, cancel_check)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def try_exclusive(self, key: str) -> Iterator[bool]:
        """Try to take an exclusive lock for the block; yield whether it is held."""
        self._index.mkdir(parents=True, exist_ok=True)
        descriptor = _try(self._path(key), fcntl.LOCK_EX)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _try(path: Path, kind: int) -> int | None:
    """Return a locked descriptor; None if the lock is held, or the opened file was just removed."""
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
    """Remove a folder, atomically for readers: rename it, then delete."""
    gone = folder.with_name(f"{STAGING}gone-{folder.name}")
    with suppress(FileNotFoundError):
        remove_folder(gone)
        folder.rename(gone)
    remove_folder(gone)


def age(path: Path) -> float:
    """Return the seconds since a file, or a name in a folder, was last changed; 0 if it does not exist."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
