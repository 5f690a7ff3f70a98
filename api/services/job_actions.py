"""Change jobs, for the API and Flower's pages: stop, resume, edit, archive, delete. Durable on return."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection

from api.dependencies import Service, find_job
from nightshift.states import JobState
from shared.db.engine import write
from shared.jobs import queries, transitions
from shared.jobs.states import StopRequest
from shared.specs.edits import JobPatch

#: What is done to a job by name; each raises Conflict where its state does not allow it.
_ACTIONS: dict[str, Callable[..., object]] = {
    "cancel": partial(transitions.request_stop, request=StopRequest.CANCEL),
    "finish": partial(transitions.request_stop, request=StopRequest.FINISH),
    "pause": partial(transitions.request_stop, request=StopRequest.PAUSE),
    "resume": transitions.resume,
    "archive": transitions.archive,
    "unarchive": transitions.unarchive,
}


def act(service: Service, job_id: str, owner: str, action: str) -> dict[str, Any]:
    """Return the job after `action`: a stop request, resume, archive or unarchive. Raises NotFound; Conflict."""
    with write(service.engine) as conn:
        whole = _controllable(conn, job_id, owner)
        _ACTIONS[action](conn, whole, owner_id=owner)
        shown = _shown(conn, whole, owner)
    # `finish` and `resume` may put it, or its shards, back into the queue.
    if shown["state"] == JobState.QUEUED or (shown["state"] == JobState.WAITING and shown["shards"]):
        service.ring(shown["spec"]["resources"]["device"], shown["id"])
    return shown


def edit(service: Service, job_id: str, owner: str, by: str, patch: JobPatch) -> dict[str, Any]:
    """Edit a job; return it. Raises NotFound, InvalidRequest, Conflict when its state does not allow it."""
    with write(service.engine) as conn:
        whole = _controllable(conn, job_id, owner)
        transitions.edit(conn, whole, patch.changes(), owner, by)
        return _shown(conn, whole, owner)


def delete(service: Service, job_id: str, owner: str) -> None:
    """Delete the job. Raises NotFound; Conflict while it is not final, or something needs it."""
    with write(service.engine) as conn:
        transitions.delete_job(conn, _controllable(conn, job_id, owner), owner)


def _controllable(conn: Connection, job_id: str, owner: str) -> str:
    """Return the id of a job that users control. Raises NotFound; Conflict for a shard, which its job controls."""
    row = find_job(conn, job_id, owner)
    transitions.refuse_shard(row)
    return str(row["id"])


def _shown(conn: Connection, job_id: str, owner: str) -> dict[str, Any]:
    return queries.job_view(queries.get_job(conn, job_id, owner))
