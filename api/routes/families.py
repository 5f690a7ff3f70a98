"""Routes of model families: presets and the JSON schema of their settings."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from api.auth import require_owner
from api.dependencies import TheService
from api.openapi import COMMON
from api.schemas import FamilyView, Page
from api.services.spec_form_schema import family_views
from shared.db.engine import read
from shared.fleet.conformance import green

router = APIRouter(prefix="/v1/families", tags=["service"], responses=COMMON, dependencies=[Depends(require_owner)])


@router.get("", response_model=Page[FamilyView], summary="List the model families")
def list_families(service: TheService) -> dict[str, Any]:
    """Families without `kinds` have a spec, but this version's workers cannot run them."""
    with read(service.engine) as conn:
        found = green(conn)
    return {"items": family_views(found)}
