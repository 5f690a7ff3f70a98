"""Archive and delete finished jobs, for the API and Flower's pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from api.dependencies import Service, whole_id
from shared.db.engine import write
from shared.jobs import queries, transitions


def archive(service: Service, job_id: str, owner: str) -> dict[str, Any]:
    """Archive a job; return it. Raises NotFound; Conflict while it is not final."""
    return _changed(service, job_id, owner, transitions.archive)


def unarchive(service: Service, job_id: str, owner: str) -> dict[str, Any]:
    """Unarchive a job; return it. Raises NotFound."""
    return _changed(service, job_id, owner, transitions.unarchive)


def delete(service: Service, job_id: str, owner: str) -> None:
    """Delete a job. Raises NotFound; Conflict while it is not final or still needed."""
    with write(service.engine) as conn:
        transitions.delete_job(conn, whole_id(conn, job_id, owner), owner)


def _changed(
    service: Service, job_id: str, owner: str, change: Callable[[Connection, str, str], None]
) -> dict[str, Any]:
    with write(service.engine) as conn:
        whole = whole_id(conn, job_id, owner)
        change(conn, whole, owner)
        return queries.job_view(queries.get_job(conn, whole, owner))
