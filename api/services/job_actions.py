"""Control jobs, for the API and Flower's pages: cancel, finish, pause, resume, edit. Durable on return."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api.dependencies import Service, whole_id
from nightshift.states import JobState
from shared.db.engine import write
from shared.jobs import queries, transitions
from shared.jobs.states import StopRequest
from shared.specs.edits import JobPatch


def request_stop(service: Service, job_id: str, owner: str, request: StopRequest) -> dict[str, Any]:
    """Request a stop; return the job. Raises NotFound; Conflict when its state does not allow it."""
    with write(service.engine) as conn:
        whole = whole_id(conn, job_id, owner)
        transitions.request_stop(conn, whole, request, owner)
        shown = _shown(conn, whole, owner)
    return _rung(service, shown)


def resume(service: Service, job_id: str, owner: str) -> dict[str, Any]:
    """Resume a job; return it. Raises NotFound; Conflict for a job that is not paused."""
    with write(service.engine) as conn:
        whole = whole_id(conn, job_id, owner)
        transitions.resume(conn, whole, owner)
        shown = _shown(conn, whole, owner)
    return _rung(service, shown)


def edit(service: Service, job_id: str, owner: str, by: str, patch: JobPatch) -> dict[str, Any]:
    """Edit a job; return it. Raises NotFound, InvalidRequest, Conflict when its state does not allow it."""
    with write(service.engine) as conn:
        whole = whole_id(conn, job_id, owner)
        transitions.edit(conn, whole, patch.changes(), owner, by)
        return _shown(conn, whole, owner)


def _shown(conn: Connection, job_id: str, owner: str) -> dict[str, Any]:
    return queries.job_view(queries.get_job(conn, job_id, owner))


def _rung(service: Service, shown: dict[str, Any]) -> dict[str, Any]:
    """Ring the doorbell if the job is queued, as `finish` and `resume` may leave it; return the job."""
    if shown["state"] == JobState.QUEUED:
        service.ring(shown["spec"]["resources"]["device"], shown["id"])
    return shown
