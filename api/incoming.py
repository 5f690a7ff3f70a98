"""A file that is written to disk while it comes in: counted, never held in memory, removed after its request.

The API reads it from a multipart form, Flower's pages from a raw body. On disk it has a random name.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from nightshift.errors import StorageFull, TooLarge
from shared.errors import StorageUnavailable
from shared.settings import Settings

#: Bytes gathered before a thread writes them.
WRITE_BYTES = 1_000_000


class IncomingFile:
    """`open`, `write` and `discard` block: call them on a thread. `add` does not."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.storage_root / "uploads" / uuid.uuid4().hex / "upload"
        self._limit = settings.max_upload_bytes
        self._pending = bytearray()
        #: Bytes that came so far.
        self.size = 0
        self._file: BinaryIO | None = None

    def open(self) -> None:
        with _storage_errors():
            self.path.parent.mkdir(parents=True)
            self._file = self.path.open("wb")

    def add(self, data: bytes) -> None:
        """Take the next bytes; raises TooLarge. Call `write` once `is_due`."""
        self.size += len(data)
        if self.size > self._limit:
            raise self.too_large()
        self._pending += data

    @property
    def is_due(self) -> bool:
        return len(self._pending) >= WRITE_BYTES

    def write(self) -> None:
        """Write what came since the last time. Raises StorageFull, StorageUnavailable."""
        assert self._file is not None
        data, self._pending = self._pending, bytearray()
        with _storage_errors():
            self._file.write(data)
            self._file.flush()

    def discard(self) -> None:
        """Remove the file; twice is harmless."""
        if self._file is not None:
            with suppress(OSError):  # what is still buffered has no room
                self._file.close()
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def too_large(self) -> TooLarge:
        return TooLarge(f"An upload may have at most {self._limit} bytes (NIGHTSHIFT_MAX_UPLOAD_BYTES).")


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The server's disk is full; nothing was kept.") from error
        raise StorageUnavailable(f"cannot be written: {error.strerror}") from error
