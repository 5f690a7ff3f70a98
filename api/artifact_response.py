"""Responses with the content of an artifact: from the storage, with ranges and an ETag."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from stat import S_IFREG
from typing import Any

from anyio import AsyncFile, CancelScope, to_thread, wrap_file
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from api.errors import problem
from shared.job_files.artifact_files import INLINE
from shared.storage import LocalStorage
from shared.storage.stored_file import Reader

#: Answers of a route that sends an artifact.
DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The requested range."},
    304: {"description": "Unchanged: `If-None-Match` names its SHA-256."},
}


def artifact_response(
    storage: LocalStorage, row: Mapping[str, Any], filename: str, if_none_match: str | None = None
) -> Response:
    """Return the file of an artifact's row. `if_none_match` may name its SHA-256, which is its ETag."""
    headers = {"ETag": f'"{row["sha256"]}"', "X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}
    if if_none_match and row["sha256"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return _Download(
        storage.reader(row["stored_as"]),
        headers=headers,
        media_type=row["media_type"],
        filename=filename,
        content_disposition_type="inline" if row["media_type"] in INLINE else "attachment",
    )


class _Download(FileResponse):
    """A FileResponse that reads from the storage and answers an invalid range with a problem document."""

    def __init__(self, reader: Reader, **more: Any) -> None:
        super().__init__(reader.path or more["filename"], **more)
        self._reader = reader
        self.stat_result = os.stat_result((S_IFREG, 0, 0, 1, 0, 0, reader.size, *[int(reader.modified)] * 3))
        self.headers["content-length"] = str(reader.size)
        self.headers["last-modified"] = formatdate(reader.modified, usegmt=True)

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[AsyncFile[bytes]]:
        file = wrap_file(await to_thread.run_sync(self._reader.open))
        try:
            yield file
        finally:
            with CancelScope(shield=True):
                await file.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: list[Message] = []
        if self._reader.path is None:  # not on disk, so the server cannot send it by path
            scope = {**scope, "extensions": {}}

        async def pass_on(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _RANGE_PROBLEMS:
                refused.append(message)
            if not refused:
                await send(message)

        await super().__call__(scope, receive, pass_on)
        if refused:
            status = refused[0]["status"]
            slug, title, detail = _RANGE_PROBLEMS[status]
            kept = {
                name: value for name, value in Headers(raw=refused[0]["headers"]).items() if name == "content-range"
            }
            answer = problem(Request(scope), status=status, slug=slug, title=title, detail=detail, headers=kept)
            await answer(scope, receive, send)


_RANGE_PROBLEMS = {
    400: ("malformed-request", "The range cannot be parsed", "Use a Range like 'bytes=1000-' or 'bytes=0-499'."),
    416: ("range-not-satisfiable", "The range lies outside the file", "Content-Range has the length of the file."),
}
