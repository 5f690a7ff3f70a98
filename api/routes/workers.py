"""Routes of workers and their devices."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.auth import Owner
from api.dependencies import TheService
from api.openapi import COMMON
from api.schemas import Page, WorkerView
from shared.db.engine import read
from shared.fleet import workers

router = APIRouter(prefix="/v1/workers", tags=["service"], responses=COMMON)


@router.get("", response_model=Page[WorkerView], summary="List the workers")
def list_workers(service: TheService, owner: Owner) -> dict[str, Any]:
    """`job_id` is null where the worker runs another owner's job."""
    with read(service.engine) as conn:
        return {"items": workers.list_workers(conn, service.settings.lease_seconds, owner)}
