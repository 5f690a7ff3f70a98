"""Routes of model families: presets, the JSON schema of their settings, and summaries of models."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends

from api.auth import require_owner
from api.dependencies import TheService
from api.openapi import COMMON
from api.route import Route
from api.schemas import FamilyView, ModelSummaryView, Page
from api.services import model_summary
from api.services.spec_form_schema import family_views
from shared.db.engine import read
from shared.fleet.conformance import green
from shared.specs.summaries import EXAMPLES, SummaryOf

router = APIRouter(
    prefix="/v1/families",
    tags=["service"],
    responses=COMMON,
    dependencies=[Depends(require_owner)],
    route_class=Route,
)


@router.get("", response_model=Page[FamilyView], summary="List the model families")
def list_families(service: TheService) -> dict[str, Any]:
    """Families without `kinds` have a spec, but this version's workers cannot run them."""
    with read(service.engine) as conn:
        found = green(conn)
    return {"items": family_views(found)}


@router.post("/summary", response_model=ModelSummaryView, summary="Summarize a model before it is trained")
def summarize(asked: Annotated[SummaryOf, Body(openapi_examples=EXAMPLES)], service: TheService) -> dict[str, Any]:
    """Its layers in the order of the network, with shapes and numbers of parameters. Nothing is trained or kept.

    What depends on the data (classes, vocabulary) is that of `dataset`, else of a typical data set; `facts` names it. A
    job writes the summary of its model with the facts of its run: `summary.txt` and `model/summary.json`.
    """
    return model_summary.of_model(service, asked)
