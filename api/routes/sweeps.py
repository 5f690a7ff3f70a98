"""Routes of sweeps: their trials, and requests to pause, resume, stop and extend them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path
from starlette.responses import JSONResponse, Response

from api.auth import Owner
from api.dependencies import Cursor, Limit, Service, TheService
from api.openapi import COMMON, problems
from api.route import AsSent, Route
from api.schemas import Page, SweepDetail, SweepView
from api.services import sweep_actions, sweeps
from shared.db.engine import read
from shared.specs.examples import SWEEP_EXAMPLES
from shared.specs.sweeps import MoreTrials, SweepSpec
from shared.sweeps import queries

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"], responses=COMMON, route_class=Route)

SweepId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{4,16}$", description="The sweep's id, or its beginning while that is unique.")
]
SweepKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Repeating a request with the same key and body returns the same sweep. Another body: 422.",
    ),
]
SweepBody = Annotated[SweepSpec, Body(openapi_examples=SWEEP_EXAMPLES)]

_CONTROL: dict[str, Any] = {"response_model": SweepDetail, "responses": problems(404, 409), "status_code": 202}


@router.post("", status_code=202, response_model=SweepDetail, responses=problems(404), summary="Submit a sweep")
def submit(
    spec: SweepBody, body: AsSent, service: TheService, owner: Owner, idempotency_key: SweepKey = None
) -> JSONResponse:
    """The job is checked at every bound and choice of the space, as POST /v1/jobs would.

    Maintenance starts the trials. Their jobs belong to this key's owner.
    """
    sweep_id = sweeps.create(service, owner, spec, body, idempotency_key)
    return JSONResponse(_shown(service, sweep_id, owner), 202, headers={"Location": f"/v1/sweeps/{sweep_id}"})


@router.get("", response_model=Page[SweepView], responses=problems(400), summary="List sweeps, newest first")
def list_sweeps(service: TheService, owner: Owner, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """The list leaves out the trials."""
    with read(service.engine) as conn:
        page = queries.list_sweeps(conn, owner, cursor, limit)
    return {"items": page.items, "next_cursor": page.next_cursor}


@router.get("/{sweep_id}", response_model=SweepDetail, responses=problems(404, 409), summary="Show a sweep")
def show(sweep_id: SweepId, service: TheService, owner: Owner) -> dict[str, Any]:
    """It comes with its trials and its newest events."""
    return _shown(service, sweep_id, owner)


@router.post("/{sweep_id}/pause", **_CONTROL, summary="Pause a sweep")
def pause(sweep_id: SweepId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Starts no further trial; running jobs write a checkpoint and release their devices."""
    return _acted(service, sweep_id, owner, "pause")


@router.post("/{sweep_id}/resume", **_CONTROL, summary="Resume a paused sweep")
def resume(sweep_id: SweepId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Its jobs are queued again and resume from their newest checkpoints."""
    return _acted(service, sweep_id, owner, "resume")


@router.post("/{sweep_id}/stop", **_CONTROL, summary="Stop a sweep and keep the best trial")
def stop(sweep_id: SweepId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Running jobs finish with the best model that they have, waiting ones are cancelled; then `on_best` is done."""
    return _acted(service, sweep_id, owner, "stop")


@router.post("/{sweep_id}/cancel", **_CONTROL, summary="Cancel a sweep")
def cancel(sweep_id: SweepId, service: TheService, owner: Owner) -> dict[str, Any]:
    """Its jobs are cancelled, and nothing is done with the best trial. Trials that have ended are kept."""
    return _acted(service, sweep_id, owner, "cancel")


@router.post("/{sweep_id}/trials", **_CONTROL, summary="Add trials to a sweep")
def add(sweep_id: SweepId, more: MoreTrials, service: TheService, owner: Owner) -> dict[str, Any]:
    """A sweep that has ended runs again and learns from the trials it has."""
    with read(service.engine) as conn:
        whole = queries.find_id(conn, sweep_id, owner)
    sweep_actions.add_trials(service, whole, owner, more.count)
    return _shown(service, whole, owner)


@router.delete("/{sweep_id}", status_code=204, responses=problems(404, 409), summary="Delete a sweep that has ended")
def delete(sweep_id: SweepId, service: TheService, owner: Owner) -> Response:
    """Its trials and events are deleted, too; jobs and models are kept. Answers 409 while it has not ended."""
    _act(service, sweep_id, owner, "delete")
    return Response(status_code=204)


def _acted(service: Service, sweep_id: str, owner: str, action: str) -> dict[str, Any]:
    return _shown(service, _act(service, sweep_id, owner, action), owner)


def _act(service: Service, sweep_id: str, owner: str, action: str) -> str:
    with read(service.engine) as conn:
        whole = queries.find_id(conn, sweep_id, owner)
    sweep_actions.act(service, whole, owner, action)
    return whole


def _shown(service: Service, sweep_id: str, owner: str) -> dict[str, Any]:
    with read(service.engine) as conn:
        return sweep_actions.detail(conn, queries.find_id(conn, sweep_id, owner), owner)
