"""Receive one file, which is written to disk while it comes in, under a random name; it is removed after its request.

The API reads it from a multipart form, Flower's pages from a raw body. The user's file name is kept as text only.
"""

from __future__ import annotations

import errno
import re
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from nightshift.errors import FieldError, InvalidRequest, MalformedRequest, StorageFull, TooLarge, UnsupportedMedia
from shared.errors import StorageUnavailable
from shared.settings import Settings

#: Bytes buffered before a thread writes them.
WRITE_BYTES = 1_000_000
#: Bytes of one text field, and of everything around the file (boundaries, headers, text fields).
_MAX_FIELD, _OVERHEAD = 1_000, 20_000
_MAX_FILENAME = 200


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


@dataclass
class Upload:
    """A received form."""

    file: Path
    filename: str | None
    fields: dict[str, str]


@asynccontextmanager
async def received(request: Request, settings: Settings, fields: frozenset[str]) -> AsyncIterator[Upload]:
    """Yield the part `file` and the text `fields`; the file exists until the block ends."""
    file = IncomingFile(settings)
    form = _Form(_boundary(request), fields, file)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > settings.max_upload_bytes + _OVERHEAD:
        raise file.too_large()
    try:
        await run_in_threadpool(file.open)
        await _receive(request, form, file)
        yield Upload(file.path, form.filename, form.values)
    finally:
        await run_in_threadpool(file.discard)


def _boundary(request: Request) -> bytes:
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    if media_type != b"multipart/form-data":
        raise UnsupportedMedia(
            "Send multipart/form-data with the parts 'file', 'name' and optionally 'kind' and 'format'."
        )
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise MalformedRequest("The Content-Type has no valid boundary.")
    return bytes(boundary)


async def _receive(request: Request, form: _Form, file: IncomingFile) -> None:
    try:
        async for chunk in request.stream():
            form.feed(chunk)
            if file.is_due:
                await run_in_threadpool(file.write)
    except ClientDisconnect:
        raise MalformedRequest("The upload ended before its announced length.") from None
    await run_in_threadpool(file.write)
    form.finish()


class _Form:
    """Collects the parts that the parser reports."""

    def __init__(self, boundary: bytes, fields: frozenset[str], file: IncomingFile) -> None:
        self.values: dict[str, str] = {}
        self.filename: str | None = None
        self._fields, self._file = fields, file
        self._seen: set[str] = set()
        self._received = 0
        self._part = ""
        self._text = bytearray()
        self._header_name, self._header_value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._all,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes. Raises RequestError for an invalid form."""
        self._received += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise MalformedRequest("The body is not well-formed multipart/form-data.") from None
        if self._received - self._file.size > _OVERHEAD:
            raise TooLarge("The parts beside the file are too large.")

    def finish(self) -> None:
        """Check that the form is complete. Raises MalformedRequest, InvalidRequest."""
        if not self._complete:
            raise MalformedRequest("The upload ended in the middle of a part.")
        if "file" not in self._seen:
            raise InvalidRequest.field(("file",), "is required")

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _begin(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part != "file" and self._part not in self._fields:
            known = ", ".join(["file", *sorted(self._fields)])
            raise InvalidRequest(
                "The form has an unknown part.", [FieldError((self._part,), f"unknown part; known parts are {known}")]
            )
        if self._part in self._seen:
            raise InvalidRequest.field((self._part,), "is given more than once")
        self._seen.add(self._part)
        self._text.clear()
        if self._part == "file":
            named = options.get(b"filename", b"").decode("utf-8", "replace")
            self.filename = re.split(r"[/\\]", named)[-1][-_MAX_FILENAME:] or None

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self._file.add(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MAX_FIELD:
            raise InvalidRequest.field((self._part,), f"may have at most {_MAX_FIELD} bytes")

    def _end(self) -> None:
        if self._part == "file":
            return
        try:
            self.values[self._part] = self._text.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest.field((self._part,), "is not UTF-8") from None

    def _all(self) -> None:
        self._complete = True
