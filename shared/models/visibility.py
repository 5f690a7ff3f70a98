"""Models are everybody's; the jobs that made them are their owners'. So a version tells its job to that owner only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from shared.jobs.ownership import owned_ids


def without_foreign_jobs(conn: Connection, shown: Sequence[dict[str, Any]], owner_id: str | None) -> None:
    """Empty `job_id` of these versions (or champions) where the job is somebody else's; `owner_id` None sees all."""
    mine = owned_ids(conn, (version["job_id"] for version in shown), owner_id)
    for version in shown:
        if version["job_id"] not in mine:
            version["job_id"] = None
