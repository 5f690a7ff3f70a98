"""The registry of trained models. Every key sees and uses every model; who made it changes it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.auth import Owner, require_owner
from api.dependencies import NameInPath, Service, TheService, whole_id
from api.http.json_body import json_body, parse_json, read_body, require_json
from api.openapi import COMMON, body_of, problems
from api.schemas import ComparisonView, ModelChangeView, ModelDetail, ModelVersionView, ModelView, Page
from api.services.schedules import parse
from api.services.write_threads import WritingRoute
from nightshift.errors import InvalidRequest
from shared import ownership
from shared.db.engine import read, write
from shared.models import aliases, editing, package, registry
from shared.specs.models import AliasMove, ModelPatch, NewVersion, Rollback, VersionPatch
from shared.storage import storage_of

router = APIRouter(
    prefix="/v1/models", tags=["models"], dependencies=[Depends(require_owner)], route_class=WritingRoute
)

Version = Annotated[int, Path(ge=1, le=999_999_999, description="The version's number.")]
Selector = Annotated[
    str, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="A version's number, or an alias.")
]


@router.get("", response_model=Page[ModelView], responses=COMMON, summary="List the models")
def list_models(service: TheService, owner: Owner) -> dict[str, Any]:
    with read(service.engine) as conn:
        return {"items": ownership.with_owner(conn, registry.list_models(conn, owner), owner)}


@router.get("/{name}", response_model=ModelDetail, responses=COMMON | problems(404), summary="One model, all versions")
def show_model(name: NameInPath, service: TheService, owner: Owner) -> dict[str, Any]:
    with read(service.engine) as conn:
        return _shown(conn, name, owner)


def _shown(conn: Connection, name: str, owner: str) -> dict[str, Any]:
    return ownership.with_owner(conn, [registry.show_model(conn, name, owner)], owner)[0]


@router.patch(
    "/{name}",
    response_model=ModelDetail,
    responses=COMMON | problems(400, 403, 404, 413, 415),
    openapi_extra=body_of(ModelPatch),
    summary="Describe a model",
)
async def describe(name: NameInPath, request: Request, service: TheService, owner: Owner) -> dict[str, Any]:
    """The change is audited."""
    patch = parse(await json_body(request, service.settings.max_body_bytes), ModelPatch)
    return await service.writers.run(_describe, service, owner, name, patch)


def _describe(service: Service, owner: str, name: str, patch: ModelPatch) -> dict[str, Any]:
    with write(service.engine) as conn:
        editing.describe(conn, name, patch.description, who=owner)
        return _shown(conn, name, owner)


@router.post(
    "/{name}/versions",
    status_code=201,
    response_model=ModelVersionView,
    responses=COMMON | problems(400, 403, 404, 409, 413, 415),
    openapi_extra=body_of(NewVersion),
    summary="Register a job's model",
)
async def register(
    name: NameInPath, request: Request, response: Response, service: TheService, owner: Owner
) -> dict[str, Any]:
    """Of a job that has succeeded, as `register_as` would have done; the first version of a name becomes its champion."""
    new = parse(await json_body(request, service.settings.max_body_bytes), NewVersion)
    shown = await service.writers.run(_register, service, owner, name, new)
    response.headers["Location"] = f"/v1/models/{name}"
    return shown


def _register(service: Service, owner: str, name: str, new: NewVersion) -> dict[str, Any]:
    said = {"description": new.description or None, "tags": new.tags}
    with write(service.engine) as conn:
        job_id = whole_id(conn, new.job, owner)
        version = editing.register_job(conn, name, job_id, owner, who=owner, **said)
        return registry.show_version(conn, name, version, owner)


@router.patch(
    "/{name}/versions/{version}",
    response_model=ModelVersionView,
    responses=COMMON | problems(400, 403, 404, 413, 415),
    openapi_extra=body_of(VersionPatch),
    summary="Describe or tag a version",
)
async def change_version(
    name: NameInPath, version: Version, request: Request, service: TheService, owner: Owner
) -> dict[str, Any]:
    """The change is audited."""
    patch = parse(await json_body(request, service.settings.max_body_bytes), VersionPatch)
    return await service.writers.run(_change_version, service, owner, name, version, patch)


def _change_version(service: Service, owner: str, name: str, version: int, patch: VersionPatch) -> dict[str, Any]:
    with write(service.engine) as conn:
        editing.change_version(conn, name, version, patch.changes(), who=owner)
        return registry.show_version(conn, name, version, owner)


@router.get(
    "/{name}/versions/{selector}/files",
    response_class=StreamingResponse,
    responses=COMMON | problems(404) | {200: {"description": "A zip.", "content": {"application/zip": {}}}},
    summary="Download a version",
)
def download(
    name: NameInPath,
    selector: Annotated[
        str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="A version's number, or an alias.")
    ],
    service: TheService,
) -> Response:
    """Its files (`model.safetensors`, `config.json`, …) as one zip."""
    with read(service.engine) as conn:
        version, rows = package.files_of(conn, name, selector)
    storage = storage_of(service.settings)
    files = [(row["path"], storage.reader(row["stored_as"]).open) for row in rows]
    pieces = package.zipped(f"{name}-{version}", files)
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{version}.zip"',
        "Cache-Control": "private, no-cache",
    }
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


@router.put(
    "/{name}/aliases/{alias}",
    response_model=ModelDetail,
    responses=COMMON | problems(400, 403, 404, 413, 415),
    openapi_extra=body_of(AliasMove),
    summary="Point an alias at a version",
)
async def set_alias(
    name: NameInPath, alias: NameInPath, request: Request, service: TheService, owner: Owner
) -> dict[str, Any]:
    """`champion` is what the model's name alone means. The move is atomic and audited."""
    if alias.isdigit():
        raise InvalidRequest.field(("alias",), "must not be a number: numbers refer to versions")
    move = parse(await json_body(request, service.settings.max_body_bytes), AliasMove)
    return await service.writers.run(_set_alias, service, owner, name, alias, move)


def _set_alias(service: Service, owner: str, name: str, alias: str, move: AliasMove) -> dict[str, Any]:
    with write(service.engine) as conn:
        aliases.set_alias(conn, name, alias, move.version, who=owner, why=move.reason)
        return _shown(conn, name, owner)


@router.post(
    "/{name}/rollback",
    response_model=ModelDetail,
    responses=COMMON | problems(400, 403, 404, 409, 413, 415),
    openapi_extra=body_of(Rollback, required=False),
    summary="Point an alias back at where it was",
)
async def rollback(name: NameInPath, request: Request, service: TheService, owner: Owner) -> dict[str, Any]:
    """Without a body: the champion. Once more goes one further back. 409 when there is nothing before."""
    raw = await read_body(request, service.settings.max_body_bytes)
    if raw:
        require_json(request)
    wanted = parse(parse_json(raw) if raw else {}, Rollback)
    return await service.writers.run(_rollback, service, owner, name, wanted)


def _rollback(service: Service, owner: str, name: str, wanted: Rollback) -> dict[str, Any]:
    with write(service.engine) as conn:
        aliases.rollback(conn, name, wanted.alias, who=owner, why=wanted.reason)
        return _shown(conn, name, owner)


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    responses=COMMON | problems(403, 404, 409),
    summary="Delete a version",
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
def compare(name: NameInPath, service: TheService, owner: Owner, a: Selector, b: Selector) -> dict[str, Any]:
    """Their metrics as they were measured when each was made; `same_dataset` says whether on the same data."""
    with read(service.engine) as conn:
        return registry.compare(conn, name, a, b, owner)
