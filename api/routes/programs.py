"""Route of programs: those that jobs of kind `run` may name, with the JSON schema of their parameters."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from api.auth import require_owner
from api.dependencies import TheService
from api.openapi import COMMON
from api.schemas import Page, ProgramView
from api.services import programs
from shared.db.engine import read
from shared.fleet.conformance import green

router = APIRouter(prefix="/v1/programs", tags=["service"], responses=COMMON, dependencies=[Depends(require_owner)])


@router.get("", response_model=Page[ProgramView], summary="List the programs")
def list_programs(service: TheService) -> dict[str, Any]:
    """Programs that the operator allows (`NIGHTSHIFT_PROGRAMS`); one that cannot be used has an `error`."""
    with read(service.engine) as conn:
        found = green(conn)
    return {"items": programs.views(service.settings, found)}
