"""A stored file for whoever downloads it: opened like any other, wherever it lies."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from shared.storage.s3_client import Bucket, Object

#: Bytes asked of a store at a time: each request costs some milliseconds.
_ASKED = 4_000_000


class Reader(Protocol):
    @property
    def size(self) -> int: ...

    @property
    def modified(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def path(self) -> Path | None:
        """Where it lies on this host."""
        ...

    def open(self) -> BinaryIO:
        """Its bytes, seekable; reading raises StorageUnavailable, OSError."""
        ...


@dataclass(frozen=True)
class FileReader:
    path: Path | None
    size: int
    modified: float

    @classmethod
    def of(cls, path: Path) -> FileReader:
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime)

    def open(self) -> BinaryIO:
        assert self.path is not None
        return self.path.open("rb")


class ObjectReader:
    def __init__(self, bucket: Bucket, found: Object) -> None:
        self.path: Path | None = None
        self.size, self.modified = found.size, found.modified
        self._bucket, self._found = bucket, found

    def open(self) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Ranges(self._bucket, self._found), _ASKED))


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
