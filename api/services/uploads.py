"""A multipart upload, streamed to disk: counted while it comes in, never held in memory, complete or refused.

On disk it is named by a random id; what the user called it is kept as text only.
"""

from __future__ import annotations

import errno
import re
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from nightshift.errors import FieldError, InvalidRequest, MalformedRequest, StorageFull, TooLarge, UnsupportedMedia

#: Bytes gathered before a thread writes them.
_WRITE_BYTES = 1_000_000
#: Bytes of one text field, and of everything around the file (boundaries, headers, text fields).
_MAX_FIELD, _OVERHEAD = 1_000, 20_000
_MAX_FILENAME = 200


@dataclass
class Upload:
    file: Path
    filename: str | None
    fields: dict[str, str]


@asynccontextmanager
async def received(request: Request, folder: Path, limit: int, fields: frozenset[str]) -> AsyncIterator[Upload]:
    """The file of the part `file`, for as long as the block lasts, and the text `fields` beside it."""
    form = _Form(_boundary(request), fields, limit)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit + _OVERHEAD:
        raise _too_large(limit)
    own = folder / uuid.uuid4().hex
    try:
        await run_in_threadpool(own.mkdir, parents=True)
        yield await _receive(request, form, own)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The server's disk is full; nothing was kept.") from error
        raise
    finally:
        await run_in_threadpool(shutil.rmtree, own, ignore_errors=True)


def _boundary(request: Request) -> bytes:
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    if media_type != b"multipart/form-data":
        raise UnsupportedMedia("Send multipart/form-data with the parts 'file', 'name' and perhaps 'format'.")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise MalformedRequest("The Content-Type names no usable boundary.")
    return bytes(boundary)


async def _receive(request: Request, form: _Form, folder: Path) -> Upload:
    path = folder / "upload"
    with path.open("wb") as target:
        try:
            async for chunk in request.stream():
                form.feed(chunk)
                if len(form.pending) >= _WRITE_BYTES:
                    await form.flush(target)
        except ClientDisconnect:
            raise MalformedRequest("The upload ended before its announced length.") from None
        await form.flush(target)
    form.finish()
    return Upload(path, form.filename, form.values)


class _Form:
    """What the parser reports, part by part. `pending` holds bytes of the file that are not on disk yet."""

    def __init__(self, boundary: bytes, fields: frozenset[str], limit: int) -> None:
        self.values: dict[str, str] = {}
        self.pending = bytearray()
        self.filename: str | None = None
        self._fields, self._limit = fields, limit
        self._seen: set[str] = set()
        self._size = self._overhead = 0
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
        self._overhead += len(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise MalformedRequest("The body is not well-formed multipart/form-data.") from None
        if self._overhead - self._size > _OVERHEAD:
            raise TooLarge("The parts beside the file are too large.")

    async def flush(self, target: BinaryIO) -> None:
        data, self.pending = self.pending, bytearray()
        await run_in_threadpool(target.write, data)

    def finish(self) -> None:
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
                "The form has an unknown part.", [FieldError((self._part,), f"unknown part; there are {known}")]
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
            self._size += end - start
            if self._size > self._limit:
                raise _too_large(self._limit)
            self.pending += data[start:end]
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


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"An upload may have at most {limit} bytes (NIGHTSHIFT_MAX_UPLOAD_BYTES).")
