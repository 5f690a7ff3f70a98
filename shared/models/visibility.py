"""Visibility of jobs in the registry: models are public, but only its owner sees the job that made a version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from shared.jobs.ownership import owned_ids


def without_foreign_jobs(conn: Connection, shown: Sequence[dict[str, Any]], owner_id: str | None) -> None:
    """Set `job_id` of versions (or champions) to None for other owners' jobs; `owner_id` None sees all."""
    mine = owned_ids(conn, (version["job_id"] for version in shown), owner_id)
    for version in shown:
        if version["job_id"] not in mine:
            version["job_id"] = None
