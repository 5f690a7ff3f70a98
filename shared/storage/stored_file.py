"""Readers of stored files for downloads, with one interface for files on disk and in a bucket."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from shared.storage.s3_client import Bucket, Object

#: Bytes per request to a store: each request costs some milliseconds.
_READ_SIZE = 4_000_000


@dataclass(frozen=True)
class Reader:
    """A stored file."""

    size: int  # bytes
    modified: float  # seconds since the epoch
    #: Opens the file for reading, seekable. Reading raises StorageUnavailable, OSError.
    open: Callable[[], BinaryIO]
    path: Path | None = None  # on this host; None for an object in a bucket


def reader_of_file(path: Path) -> Reader:
    """Return the reader of an existing file. Raises OSError."""
    status = path.stat()
    return Reader(status.st_size, status.st_mtime, lambda: path.open("rb"), path)


def reader_of_object(bucket: Bucket, found: Object) -> Reader:
    """Return the reader of an object in a bucket, which is read in ranges."""

    def opened() -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Ranges(bucket, found), _READ_SIZE))

    return Reader(found.size, found.modified, opened)


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
