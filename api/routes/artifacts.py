"""Routes of artifacts. A path in a URL is only compared with SQL rows; the row names the file that is opened."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi import Path as InPath
from starlette.responses import FileResponse, Response

from api.artifact_response import DOWNLOAD, artifact_response
from api.auth import Owner
from api.dependencies import JobId, TheService, find_job
from api.openapi import COMMON, problems
from api.schemas import ArtifactView, Page
from shared.db.engine import read
from shared.jobs import queries
from shared.storage import storage_of

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"], responses=COMMON)


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
    responses=DOWNLOAD | problems(400, 404, 409, 416),
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
    return artifact_response(storage_of(service.settings), row, PurePosixPath(row["path"]).name, if_none_match)
