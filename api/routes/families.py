"""What can be trained: families, presets, and the JSON schema of their settings."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from api.auth import require_owner
from api.openapi import COMMON
from api.schemas import FamilyView, Page
from shared.specs import supported
from shared.specs.families import FAMILIES, Family
from shared.specs.training import Training

router = APIRouter(prefix="/v1/families", tags=["service"], dependencies=[Depends(require_owner)])


@router.get("", response_model=Page[FamilyView], responses=COMMON, summary="List the model families")
def list_families() -> dict[str, Any]:
    """Families without `kinds` have a spec, but no worker of this version runs them yet."""
    return {"items": [_view(name, family) for name, family in FAMILIES.items()]}


def _view(name: str, family: Family) -> dict[str, Any]:
    schema = family.model.model_json_schema()
    schema.pop("required", None)  # the preset fills every field in
    return {
        "name": name,
        "kinds": supported.kinds_of(name),
        "frameworks": supported.frameworks_of(name),
        "dataset_kind": family.dataset_kind,
        "default_preset": family.default_preset,
        "presets": {
            preset: {"model": dict(model), "training": dict(family.training_for(preset))}
            for preset, model in family.presets.items()
        },
        "model_schema": schema,
        "training_schema": Training.model_json_schema(),
    }
