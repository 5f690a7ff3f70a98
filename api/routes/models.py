"""The registry of trained models. Models belong to the installation: every key sees and moves them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Owner, require_owner
from api.body import json_body, parse_json, read_body, require_json
from api.deps import NameInPath, Service, TheService
from api.openapi import COMMON, body_of, problems
from api.scheduling import parse
from api.schemas import ComparisonView, ModelChangeView, ModelDetail, ModelView, Page
from shared.db.engine import read, write
from shared.errors import InvalidRequest
from shared.models import aliases, registry
from shared.specs.models import AliasMove, Rollback

router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[Depends(require_owner)])

Version = Annotated[int, Path(ge=1, le=999_999_999, description="The version's number.")]
Selector = Annotated[
    str, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="A version's number, or an alias.")
]


@router.get("", response_model=Page[ModelView], responses=COMMON, summary="List the models")
def list_models(service: TheService) -> dict[str, Any]:
    with read(service.engine) as conn:
        return {"items": registry.list_models(conn)}


@router.get("/{name}", response_model=ModelDetail, responses=COMMON | problems(404), summary="One model, all versions")
def show_model(name: NameInPath, service: TheService) -> dict[str, Any]:
    with read(service.engine) as conn:
        return registry.show_model(conn, name)


@router.put(
    "/{name}/aliases/{alias}",
    response_model=ModelDetail,
    responses=COMMON | problems(400, 404, 413, 415),
    openapi_extra=body_of(AliasMove),
    summary="Point an alias at a version",
)
async def set_alias(
    name: NameInPath, alias: NameInPath, request: Request, service: TheService, owner: Owner
) -> dict[str, Any]:
    """`champion` is what the model's name alone means. The move is atomic and audited."""
    if alias.isdigit():
        raise InvalidRequest.field(("alias",), "must not be a number: those name versions")
    move = parse(await json_body(request, service.settings.max_body_bytes), AliasMove)
    return await run_in_threadpool(_set_alias, service, owner, name, alias, move)


def _set_alias(service: Service, owner: str, name: str, alias: str, move: AliasMove) -> dict[str, Any]:
    with write(service.engine) as conn:
        aliases.set_alias(conn, name, alias, move.version, who=owner, why=move.reason)
        return registry.show_model(conn, name)


@router.post(
    "/{name}/rollback",
    response_model=ModelDetail,
    responses=COMMON | problems(400, 404, 409, 413, 415),
    openapi_extra=body_of(Rollback, required=False),
    summary="Point an alias back at where it was",
)
async def rollback(name: NameInPath, request: Request, service: TheService, owner: Owner) -> dict[str, Any]:
    """Without a body: the champion. Once more goes one further back. 409 when there is nothing before."""
    raw = await read_body(request, service.settings.max_body_bytes)
    if raw:
        require_json(request)
    wanted = parse(parse_json(raw) if raw else {}, Rollback)
    return await run_in_threadpool(_rollback, service, owner, name, wanted)


def _rollback(service: Service, owner: str, name: str, wanted: Rollback) -> dict[str, Any]:
    with write(service.engine) as conn:
        aliases.rollback(conn, name, wanted.alias, who=owner, why=wanted.reason)
        return registry.show_model(conn, name)


@router.delete(
    "/{name}/versions/{version}", status_code=204, responses=COMMON | problems(404, 409), summary="Delete a version"
)
def delete_version(name: NameInPath, version: Version, service: TheService, owner: Owner) -> Response:
    """Refused while an alias or a job that is not final holds it. Its number is not given again."""
    with write(service.engine) as conn:
        aliases.delete_version(conn, name, version, who=owner)
    return Response(status_code=204)


@router.get(
    "/{name}/history",
    response_model=Page[ModelChangeView],
    responses=COMMON | problems(400, 404),
    summary="The audit: every move of an alias",
)
def history(
    name: NameInPath,
    service: TheService,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=300, description="`next_cursor` of the page before.")] = None,
) -> dict[str, Any]:
    """Newest first."""
    with read(service.engine) as conn:
        page = aliases.history(conn, name, cursor, limit)
    return {"items": page.items, "next_cursor": page.next_cursor}


@router.get(
    "/{name}/compare",
    response_model=ComparisonView,
    responses=COMMON | problems(404),
    summary="Two versions side by side",
)
def compare(name: NameInPath, service: TheService, a: Selector, b: Selector) -> dict[str, Any]:
    """Their metrics as they were measured when each was made; `same_dataset` says whether on the same data."""
    with read(service.engine) as conn:
        return registry.compare(conn, name, a, b)
