"""Routes of a job's results: metrics, attempts, checkpoints, logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection
from starlette.responses import StreamingResponse

from api.auth import Owner
from api.dependencies import Cursor, JobId, Service, TheService, find_job
from api.openapi import COMMON, problems
from api.schemas import AttemptView, CheckpointView, JobView, LogView, MetricView, Page, SystemView
from api.services import exports
from nightshift.errors import MalformedRequest
from shared.db.engine import read
from shared.jobs import queries
from shared.jobs.queries import cursors

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["results"], responses=COMMON)

_RESPONSES = problems(404, 409)
#: Largest step or sequence number; databases reject larger ones.
_LARGEST = 2**53


@router.get(
    "/metrics",
    response_model=Page[MetricView],
    responses=_RESPONSES | problems(400),
    summary="List a job's metric points",
)
def list_metrics(
    job_id: JobId,
    service: TheService,
    owner: Owner,
    name: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Only this metric.")] = None,
    after_step: Annotated[int | None, Query(ge=-1, le=_LARGEST, description="Only points after this step.")] = None,
    max_points: Annotated[
        int | None,
        Query(ge=4, le=100_000, description="Reduce each longer curve to about this many points; extremes stay."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100_000, description="Points per page, without `max_points`.")] = (10_000),
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Sorted by name and step. One point per name and step, also after crashes and resumed attempts."""
    if max_points is not None:
        return _of_job(
            service, job_id, owner, lambda conn, whole: queries.metrics(conn, whole, name, after_step, max_points)
        )
    after = cursors.decode("metrics", cursor, str, int) if cursor is not None else None
    page = _of_job(
        service,
        job_id,
        owner,
        lambda conn, whole: queries.metrics(conn, whole, name, after_step, limit=limit + 1, after=after),
    )
    if len(page["items"]) > limit:
        page["items"].pop()
        last = page["items"][-1]
        page["next_cursor"] = cursors.encode("metrics", last["name"], last["step"])
    return page


_CSV: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A header `name,step,epoch,value,at`, then a line per point.",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One line per line of the log: time, attempt, level, message.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/metrics.csv",
    response_class=StreamingResponse,
    responses=_CSV | _RESPONSES,
    summary="Download a job's metrics as CSV",
)
def metrics_as_csv(job_id: JobId, service: TheService, owner: Owner) -> StreamingResponse:
    """Sorted by name and step."""
    whole = _owned(service, job_id, owner)
    return _file(exports.metrics_csv(service.engine, whole), "text/csv", f"{whole}-metrics.csv")


@router.get(
    "/log.txt", response_class=StreamingResponse, responses=_TEXT | _RESPONSES, summary="Download a job's log as text"
)
def log_as_text(job_id: JobId, service: TheService, owner: Owner) -> StreamingResponse:
    """Oldest first."""
    whole = _owned(service, job_id, owner)
    return _file(exports.log_text(service.engine, whole), "text/plain", f"{whole}-log.txt")


def _owned(service: Service, job_id: str, owner: str) -> str:
    with read(service.engine) as conn:
        return str(find_job(conn, job_id, owner)["id"])


def _file(content: Iterator[bytes], media_type: str, name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(content, media_type=media_type, headers=headers)


@router.get("/system", response_model=Page[SystemView], responses=_RESPONSES, summary="List a job's resource usage")
def list_system(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Samples every few seconds, less often the longer the job runs; oldest first."""
    return _of_job(service, job_id, owner, queries.system_samples)


@router.get("/attempts", response_model=Page[AttemptView], responses=_RESPONSES, summary="List a job's attempts")
def list_attempts(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Newest first, each with its outcome."""
    return _of_job(service, job_id, owner, queries.attempts)


@router.get("/shards", response_model=Page[JobView], responses=_RESPONSES, summary="List a job's shards")
def list_shards(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """They come in the order of their rows; a job that is computed in one piece has none."""
    return _of_job(service, job_id, owner, queries.list_shards)


@router.get(
    "/checkpoints", response_model=Page[CheckpointView], responses=_RESPONSES, summary="List a job's checkpoints"
)
def list_checkpoints(job_id: JobId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Newest first. A `quarantined` checkpoint was damaged or could not be loaded, and is not used."""
    return _of_job(service, job_id, owner, queries.checkpoints)


@router.get(
    "/logs", response_model=Page[LogView], responses=_RESPONSES | problems(400), summary="List a job's log lines"
)
def list_logs(
    job_id: JobId,
    service: TheService,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    cursor: Annotated[str | None, Query(max_length=20, description="`next_cursor` of the page before.")] = None,
) -> dict[str, Any]:
    """Oldest first."""
    after = _line(cursor)
    page = _of_job(service, job_id, owner, lambda conn, whole: queries.logs(conn, whole, after, limit + 1))
    more = len(page["items"]) > limit
    page["items"] = page["items"][:limit]
    page["next_cursor"] = str(page["items"][-1]["seq"]) if more else None
    return page


def _line(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal() and int(cursor) <= _LARGEST):
        raise MalformedRequest("The cursor is not from this collection; start again without it.")
    return int(cursor)


def _of_job(
    service: Service, job_id: str, owner: str, query: Callable[[Connection, str], list[dict[str, Any]]]
) -> dict[str, Any]:
    with read(service.engine) as conn:
        return {"items": query(conn, find_job(conn, job_id, owner)["id"])}
