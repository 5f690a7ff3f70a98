"""An uploaded file, written to disk while it is received: counted, never held in memory, removed after the request.

The API receives it in a multipart form, Flower's pages in a raw body. On disk it has a random name.
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

#: Bytes buffered before a thread writes them.
WRITE_BYTES = 1_000_000


class IncomingFile:
    """An uploaded file. `open`, `write` and `discard` block: call them on a thread. `add` does not."""

    def __init__(self, settings: Settings) -> None:
        self.path = settings.storage_root / "uploads" / uuid.uuid4().hex / "upload"
        self._limit = settings.max_upload_bytes
        self._pending = bytearray()
        #: Bytes received so far.
        self.size = 0
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Create the file. Raises StorageFull, StorageUnavailable."""
        with _storage_errors():
            self.path.parent.mkdir(parents=True)
            self._file = self.path.open("wb")

    def add(self, data: bytes) -> None:
        """Buffer the next bytes. Call `write` once `is_due`. Raises TooLarge."""
        self.size += len(data)
        if self.size > self._limit:
            raise self.too_large()
        self._pending += data

    @property
    def is_due(self) -> bool:
        """Return whether the buffer is full."""
        return len(self._pending) >= WRITE_BYTES

    def write(self) -> None:
        """Write the buffered bytes. Raises StorageFull, StorageUnavailable."""
        assert self._file is not None
        data, self._pending = self._pending, bytearray()
        with _storage_errors():
            self._file.write(data)
            self._file.flush()

    def discard(self) -> None:
        """Remove the file; idempotent."""
        if self._file is not None:
            with suppress(OSError):  # closing flushes, which fails on a full disk
                self._file.close()
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def too_large(self) -> TooLarge:
        """Return the error of a file above the limit."""
        return TooLarge(f"An upload may have at most {self._limit} bytes (NIGHTSHIFT_MAX_UPLOAD_BYTES).")


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The server's disk is full; nothing was kept.") from error
        raise StorageUnavailable(f"cannot be written: {error.strerror}") from error
