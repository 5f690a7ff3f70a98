"""Routes of artifacts. A path in a URL is only compared with SQL rows; the row names the file that is opened."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import PurePosixPath
from stat import S_IFREG
from typing import Annotated, Any

from anyio import AsyncFile, CancelScope, to_thread, wrap_file
from fastapi import APIRouter, Header
from fastapi import Path as InPath
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from api.auth import Owner
from api.dependencies import JobId, TheService, find_job
from api.errors import problem
from api.openapi import COMMON, problems
from api.schemas import ArtifactView, Page
from shared.db.engine import read
from shared.job_files.artifact_files import INLINE
from shared.jobs import queries
from shared.storage import storage_of
from shared.storage.stored_file import Reader

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"], responses=COMMON)

_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The requested range."},
    304: {"description": "Unchanged: `If-None-Match` names its SHA-256."},
}


@router.get(
    "/artifacts",
    response_model=Page[ArtifactView],
    responses=problems(404, 409),
    summary="List a job's artifacts",
)
def list_artifacts(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Every listed file is complete and matches its SHA-256."""
    with read(service.engine) as conn:
        return {"items": queries.artifacts(conn, find_job(conn, job_id, owner)["id"])}


@router.get(
    "/artifacts/{path:path}",
    response_class=FileResponse,
    responses=_DOWNLOAD | problems(400, 404, 409, 416),
    summary="Download an artifact",
)
@router.head("/artifacts/{path:path}", include_in_schema=False)
def download(
    job_id: JobId,
    path: Annotated[str, InPath(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["model/model.safetensors"])],
    service: TheService,
    owner: Owner,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The ETag is the file's SHA-256. Ranges are supported, so an interrupted download can continue."""
    with read(service.engine) as conn:
        row = queries.artifact(conn, find_job(conn, job_id, owner)["id"], path)
    headers = {"ETag": f'"{row["sha256"]}"', "X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}
    if if_none_match and row["sha256"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return _Download(
        storage_of(service.settings).reader(row["stored_as"]),
        headers=headers,
        media_type=row["media_type"],
        filename=PurePosixPath(row["path"]).name,
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
