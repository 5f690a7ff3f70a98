"""Routes of schedules: their jobs, next times and past ticks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import JSONResponse, Response

from api.auth import Owner
from api.dependencies import WHOLE_NAME, Cursor, Limit, TheService
from api.openapi import COMMON, problems
from api.route import Route
from api.schemas import JobView, Page, PreviewView, ScheduleView, TickView
from api.services import schedules
from shared.db.engine import read, write
from shared.jobs import queries as job_queries
from shared.schedules import queries, transitions
from shared.specs.schedules import SchedulePatch, ScheduleSpec

router = APIRouter(prefix="/v1/schedules", tags=["schedules"], responses=COMMON, route_class=Route)

ScheduleRef = Annotated[str, Path(pattern=WHOLE_NAME, description="The schedule's id, or its name.")]


@router.post("", status_code=201, response_model=ScheduleView, responses=problems(409), summary="Create a schedule")
def create(spec: ScheduleSpec, service: TheService, owner: Owner) -> JSONResponse:
    """Its job is checked as POST /v1/jobs would. Names are unique per owner."""
    shown = schedules.create(service, owner, spec)
    return JSONResponse(shown, status_code=201, headers={"Location": f"/v1/schedules/{shown['id']}"})


@router.get("", response_model=Page[ScheduleView], summary="List the schedules")
def list_schedules(service: TheService, owner: Owner) -> dict[str, Any]:
    """Each with its next time and last tick."""
    with read(service.engine) as conn:
        return {"items": queries.list_schedules(conn, owner)}


@router.get("/{schedule}", response_model=ScheduleView, responses=problems(404), summary="Show a schedule")
def show(schedule: ScheduleRef, service: TheService, owner: Owner) -> dict[str, Any]:
    """With its next time and last tick."""
    with read(service.engine) as conn:
        return queries.schedule_view(queries.get_schedule(conn, queries.find_id(conn, schedule, owner), owner))


@router.patch(
    "/{schedule}",
    response_model=ScheduleView,
    responses=problems(404, 409),
    summary="Change, pause or resume a schedule",
)
def change(schedule: ScheduleRef, patch: SchedulePatch, service: TheService, owner: Owner) -> dict[str, Any]:
    """Omitted fields are kept. `enabled: false` pauses; ticks during a pause are not run later."""
    return schedules.change(service, owner, schedule, patch)


@router.delete("/{schedule}", status_code=204, responses=problems(404), summary="Delete a schedule")
def delete(schedule: ScheduleRef, service: TheService, owner: Owner) -> Response:
    """With its history. Its jobs continue to run."""
    with write(service.engine) as conn:
        transitions.delete_schedule(conn, queries.find_id(conn, schedule, owner), owner)
    return Response(status_code=204)


@router.post(
    "/{schedule}/run",
    status_code=202,
    response_model=JobView,
    responses=problems(404, 409),
    summary="Run a schedule's job now",
)
def run(schedule: ScheduleRef, service: TheService, owner: Owner) -> JSONResponse:
    """Also while the schedule is paused or another of its jobs runs. The next tick is unchanged."""
    with write(service.engine) as conn:
        job_id = transitions.run_now(conn, queries.find_id(conn, schedule, owner), owner)
        shown = job_queries.job_view(job_queries.get_job(conn, job_id, owner))
    service.ring(shown["spec"]["resources"]["device"], job_id)
    return JSONResponse(shown, status_code=202, headers={"Location": f"/v1/jobs/{job_id}"})


@router.get(
    "/{schedule}/preview",
    response_model=Page[PreviewView],
    responses=problems(404),
    summary="List a schedule's next times",
)
def preview(
    schedule: ScheduleRef, service: TheService, owner: Owner, n: Annotated[int, Query(ge=1, le=1000)] = 10
) -> dict[str, Any]:
    """In UTC and in the schedule's time zone."""
    with read(service.engine) as conn:
        return {"items": queries.preview(conn, queries.find_id(conn, schedule, owner), owner, n)}


@router.get(
    "/{schedule}/history",
    response_model=Page[TickView],
    responses=problems(400, 404),
    summary="List a schedule's past ticks",
)
def history(
    schedule: ScheduleRef,
    service: TheService,
    owner: Owner,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Newest first."""
    with read(service.engine) as conn:
        page = queries.history(conn, queries.find_id(conn, schedule, owner), owner, cursor, limit)
    return {"items": page.items, "next_cursor": page.next_cursor}
