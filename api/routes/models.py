"""Routes of the model registry. Every key may read and use every model; only its owner may change it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Header, Path, Query
from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from api.artifact_response import DOWNLOAD, artifact_response
from api.auth import Owner, require_owner
from api.dependencies import WHOLE_NAME, Cursor, Limit, NameInPath, TheService, whole_id
from api.openapi import COMMON, problems
from api.route import Route
from api.schemas import ComparisonView, ModelChangeView, ModelDetail, ModelVersionView, ModelView, Page
from nightshift.errors import InvalidRequest
from shared import ownership
from shared.db.engine import read, write
from shared.models import aliases, editing, package, registry
from shared.specs.models import AliasMove, ModelPatch, NewVersion, Rollback, VersionPatch
from shared.storage import storage_of

router = APIRouter(
    prefix="/v1/models", tags=["models"], responses=COMMON, dependencies=[Depends(require_owner)], route_class=Route
)

Version = Annotated[int, Path(ge=1, le=999_999_999, description="The version's number.")]
_CHAMPION = Rollback()
Selector = Annotated[str, Query(pattern=WHOLE_NAME, description="A version's number, or an alias.")]


@router.get("", response_model=Page[ModelView], summary="List the models")
def list_models(service: TheService, owner: Owner) -> dict[str, Any]:
    """Models of all owners, with their champions and aliases."""
    with read(service.engine) as conn:
        return {"items": ownership.with_owner(conn, registry.list_models(conn, owner), owner)}


@router.get("/{name}", response_model=ModelDetail, responses=problems(404), summary="Show a model with its versions")
def show_model(name: NameInPath, service: TheService, owner: Owner) -> dict[str, Any]:
    """With its aliases; newest version first."""
    with read(service.engine) as conn:
        return _shown(conn, name, owner)


def _shown(conn: Connection, name: str, owner: str) -> dict[str, Any]:
    return ownership.with_owner(conn, [registry.show_model(conn, name, owner)], owner)[0]


@router.patch("/{name}", response_model=ModelDetail, responses=problems(403, 404), summary="Describe a model")
def describe(name: NameInPath, patch: ModelPatch, service: TheService, owner: Owner) -> dict[str, Any]:
    """The change is audited."""
    with write(service.engine) as conn:
        editing.describe(conn, name, patch.description, who=owner)
        return _shown(conn, name, owner)


@router.post(
    "/{name}/versions",
    status_code=201,
    response_model=ModelVersionView,
    responses=problems(403, 404, 409),
    summary="Register a job's model",
)
def register(
    name: NameInPath, new: NewVersion, response: Response, service: TheService, owner: Owner
) -> dict[str, Any]:
    """The job must have succeeded. The first version becomes the champion, as with `register_as`."""
    response.headers["Location"] = f"/v1/models/{name}"
    with write(service.engine) as conn:
        job_id, description = whole_id(conn, new.job, owner), new.description or None
        version = editing.register_job(conn, name, job_id, owner, who=owner, description=description, tags=new.tags)
        return registry.show_version(conn, name, version, owner)


@router.patch(
    "/{name}/versions/{version}",
    response_model=ModelVersionView,
    responses=problems(403, 404),
    summary="Describe or tag a version",
)
def change_version(
    name: NameInPath, version: Version, patch: VersionPatch, service: TheService, owner: Owner
) -> dict[str, Any]:
    """The change is audited."""
    with write(service.engine) as conn:
        editing.change_version(conn, name, version, patch.changes(), who=owner)
        return registry.show_version(conn, name, version, owner)


@router.get(
    "/{name}/versions/{selector}/files",
    response_class=StreamingResponse,
    responses=problems(404) | {200: {"description": "A zip.", "content": {"application/zip": {}}}},
    summary="Download a model version",
)
def download(
    name: NameInPath,
    selector: Annotated[str, Path(pattern=WHOLE_NAME, description="A version's number, or an alias.")],
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


@router.get(
    "/{name}/versions/{selector}/export",
    response_class=Response,
    responses=DOWNLOAD | problems(400, 404, 416),
    summary="Export a model version",
)
def export(
    name: NameInPath,
    selector: Annotated[str, Path(pattern=WHOLE_NAME, description="A version's number, or an alias.")],
    service: TheService,
    format: Annotated[Literal["onnx"], Query(description="The format of the file.")] = "onnx",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Its network with its weights as one ONNX file, the one that batch inference computes with ONNX Runtime."""
    with read(service.engine) as conn:
        version, row = package.onnx_of(conn, name, selector)
    return artifact_response(storage_of(service.settings), row, f"{name}-{version}.{format}", if_none_match)


@router.put(
    "/{name}/aliases/{alias}",
    response_model=ModelDetail,
    responses=problems(403, 404),
    summary="Point an alias at a version",
)
def set_alias(
    name: NameInPath, alias: NameInPath, move: AliasMove, service: TheService, owner: Owner
) -> dict[str, Any]:
    """A model's name alone means `champion`. The move is atomic and audited."""
    if alias.isdigit():
        raise InvalidRequest.field(("alias",), "must not be a number; numbers are versions")
    with write(service.engine) as conn:
        aliases.set_alias(conn, name, alias, move.version, who=owner, why=move.reason)
        return _shown(conn, name, owner)


@router.post(
    "/{name}/rollback",
    response_model=ModelDetail,
    responses=problems(403, 404, 409),
    summary="Point an alias back at its previous version",
)
def rollback(
    name: NameInPath, service: TheService, owner: Owner, wanted: Annotated[Rollback, Body()] = _CHAMPION
) -> dict[str, Any]:
    """Without a body: the champion. Each call undoes one more move. 409 when there is no earlier one."""
    with write(service.engine) as conn:
        aliases.rollback(conn, name, wanted.alias, who=owner, why=wanted.reason)
        return _shown(conn, name, owner)


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    responses=problems(403, 404, 409),
    summary="Delete a model version",
)
def delete_version(name: NameInPath, version: Version, service: TheService, owner: Owner) -> Response:
    """Refused while an alias or an unfinished job uses it. The number is not reused."""
    with write(service.engine) as conn:
        aliases.delete_version(conn, name, version, who=owner)
    return Response(status_code=204)


@router.get(
    "/{name}/history",
    response_model=Page[ModelChangeView],
    responses=problems(400, 404),
    summary="List a model's changes",
)
def history(
    name: NameInPath,
    service: TheService,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Newest first."""
    with read(service.engine) as conn:
        page = aliases.history(conn, name, cursor, limit)
    return {"items": page.items, "next_cursor": page.next_cursor}


@router.get(
    "/{name}/compare",
    response_model=ComparisonView,
    responses=problems(404),
    summary="Compare two versions",
)
def compare(name: NameInPath, service: TheService, owner: Owner, a: Selector, b: Selector) -> dict[str, Any]:
    """Their metrics as measured when each was created; `same_dataset` tells whether on the same data."""
    with read(service.engine) as conn:
        return registry.compare(conn, name, a, b, owner)
