"""The fleet: every worker that has registered, with its device."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from api.auth import Owner
from api.dependencies import TheService
from api.openapi import COMMON
from api.schemas import Page, WorkerView
from shared.db.engine import read
from shared.fleet import workers

router = APIRouter(prefix="/v1/workers", tags=["service"])


@router.get("", response_model=Page[WorkerView], responses=COMMON, summary="List the workers")
def list_workers(service: TheService, owner: Owner) -> dict[str, Any]:
    """Of somebody else's job only that the worker is there is told, not its id."""
    with read(service.engine) as conn:
        return {"items": workers.list_workers(conn, service.settings.lease_seconds, owner)}
