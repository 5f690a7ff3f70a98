"""The registry of trained models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from api.auth import require_owner
from api.deps import NameInPath, TheService
from api.openapi import COMMON, problems
from api.schemas import ModelDetail, ModelView, Page
from shared.db.engine import read
from shared.models import registry

router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[Depends(require_owner)])


@router.get("", response_model=Page[ModelView], responses=COMMON, summary="List the models")
def list_models(service: TheService) -> dict[str, Any]:
    with read(service.engine) as conn:
        return {"items": registry.list_models(conn)}


@router.get("/{name}", response_model=ModelDetail, responses=COMMON | problems(404), summary="One model, all versions")
def show_model(name: NameInPath, service: TheService) -> dict[str, Any]:
    with read(service.engine) as conn:
        return registry.show_model(conn, name)
