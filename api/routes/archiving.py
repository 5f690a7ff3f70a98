"""Routes that archive and delete finished jobs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.auth import Owner
from api.dependencies import JobId, TheService
from api.openapi import COMMON, problems
from api.schemas import JobView
from api.services import archiving
from api.services.write_threads import WritingRoute

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=COMMON, route_class=WritingRoute)

_ARCHIVING: dict[str, Any] = {"response_model": JobView, "responses": problems(404, 409)}


@router.post("/{job_id}/archive", **_ARCHIVING, summary="Archive a job")
def archive(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Lists omit it unless `q` has `is:archived` or `is:any`; nothing is deleted."""
    return archiving.archive(service, job_id, owner)


@router.post("/{job_id}/unarchive", **_ARCHIVING, summary="Unarchive a job")
def unarchive(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Lists show it again."""
    return archiving.unarchive(service, job_id, owner)


@router.delete("/{job_id}", status_code=204, responses=problems(404, 409), summary="Delete a finished job")
def delete(job_id: JobId, service: TheService, owner: Owner) -> None:
    """Permanently, with its files, checkpoints, metrics, log and events.

    409 while the job has not ended, or while a model version, an unfinished job or a schedule needs it. Its
    Idempotency-Key cannot be reused: sent again, it gets 409.
    """
    archiving.delete(service, job_id, owner)
