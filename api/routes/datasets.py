"""What jobs learn from. Data sets belong to the installation: every key sees them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from api.auth import require_owner
from api.deps import NameInPath, TheService
from api.openapi import COMMON, problems
from api.schemas import DatasetDetail, DatasetView, Page
from shared.datasets import registry
from shared.datasets.builtins import BUILTIN
from shared.db.engine import read

router = APIRouter(prefix="/v1/datasets", tags=["data sets"], dependencies=[Depends(require_owner)])


@router.get("", response_model=Page[DatasetView], responses=COMMON, summary="List the data sets")
def list_datasets(service: TheService) -> dict[str, Any]:
    """With the built-in ones that nobody has used yet; their facts are null."""
    with read(service.engine) as conn:
        items = registry.list_datasets(conn)
    known = {item["name"] for item in items}
    waiting = [_unregistered(name) for name in BUILTIN if name not in known]
    return {"items": sorted(items + waiting, key=lambda item: str(item["name"]))}


@router.get(
    "/{name}", response_model=DatasetDetail, responses=COMMON | problems(404), summary="One data set, all versions"
)
def show_dataset(name: NameInPath, service: TheService) -> dict[str, Any]:
    with read(service.engine) as conn:
        if name in BUILTIN and not any(item["name"] == name for item in registry.list_datasets(conn)):
            return {**_unregistered(name), "versions": []}
        return registry.show(conn, name)


def _unregistered(name: str) -> dict[str, Any]:
    return {**dict.fromkeys(DatasetView.model_fields), "name": name, "builtin": True}
