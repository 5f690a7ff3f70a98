"""Readers of stored files for downloads, with one interface for files on disk and in a bucket."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from shared.storage.s3_client import Bucket, Object

#: Bytes per request to a store: each request costs some milliseconds.
_READ_SIZE = 4_000_000


class Reader(Protocol):
    """A stored file."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        ...

    @property
    def modified(self) -> float:
        """Time of the last change (seconds since the epoch)."""
        ...

    @property
    def path(self) -> Path | None:
        """Path on this host; None for an object in a bucket."""
        ...

    def open(self) -> BinaryIO:
        """Open the file for reading, seekable. Reading raises StorageUnavailable, OSError."""
        ...


@dataclass(frozen=True)
class FileReader:
    """A file on this host."""

    path: Path | None
    size: int
    modified: float

    @classmethod
    def of(cls, path: Path) -> FileReader:
        """Return the reader of an existing file. Raises OSError."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime)

    def open(self) -> BinaryIO:
        assert self.path is not None
        return self.path.open("rb")


class ObjectReader:
    """An object in a bucket, read in ranges."""

    def __init__(self, bucket: Bucket, found: Object) -> None:
        self.path: Path | None = None
        self.size, self.modified = found.size, found.modified
        self._bucket, self._found = bucket, found

    def open(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Ranges(self._bucket, self._found), _READ_SIZE))


class _Ranges(io.RawIOBase):
    def __init__(self, bucket: Bucket, found: Object) -> None:
        self._bucket, self._found, self._at = bucket, found, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._found.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._bucket.read(self._found.key, self._at, min(self._found.size, self._at + len(buffer)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
