"""Routes of data sets. Every key may read and use every data set; only its owner may change it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Path
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Owner, require_owner
from api.dependencies import NameInPath, Service, TheService
from api.openapi import COMMON, problems
from api.schemas import DatasetDetail, DatasetView, Page
from api.services.uploads import Upload, received
from api.services.write_threads import WritingRoute
from nightshift.errors import InvalidRequest, NotFound
from nightshift.names import DATA_KINDS
from shared import ownership
from shared.datasets import builtins, previews, references, registry, views
from shared.datasets.builtins import AT_ONCE, BUILTIN
from shared.datasets.formats import FORMATS
from shared.datasets.models import DatasetVersion
from shared.db.engine import read, write
from shared.specs.base import DATASET_REF

router = APIRouter(
    prefix="/v1/datasets",
    tags=["data sets"],
    responses=COMMON,
    dependencies=[Depends(require_owner)],
    route_class=WritingRoute,
)

RefInPath = Annotated[str, Path(pattern=f"^{DATASET_REF}$", description="The name, or with a version: `pets@3`.")]
Version = Annotated[int, Path(ge=1, le=999_999_999, description="The version's number.")]

_FILE = {
    "file": {"type": "string", "format": "binary", "description": "One file; a folder as a zip."},
    "format": {
        "type": "string",
        "enum": list(FORMATS),
        "description": "Of images and text. Detected from the content if omitted.",
    },
}
_NAME = {
    "name": {"type": "string", "examples": ["my-digits"]},
    "kind": {
        "type": "string",
        "enum": list(DATA_KINDS),
        "description": "Required for `files`, and for a new `table` from a CSV; else found from the content.",
    },
}


def _form(fields: dict[str, Any], *required: str) -> dict[str, Any]:
    schema = {"type": "object", "required": list(required), "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.get("", response_model=Page[DatasetView], summary="List the data sets")
def list_datasets(service: TheService, owner: Owner) -> dict[str, Any]:
    """Includes built-in sets that are not registered yet; their fields are null."""
    with read(service.engine) as conn:
        items = ownership.with_owner(conn, views.list_datasets(conn), owner)
    known = {item["name"] for item in items}
    waiting = [_unregistered(service, name) for name in BUILTIN if name not in known]
    return {"items": sorted(items + waiting, key=lambda item: str(item["name"]))}


@router.get(
    "/{name}",
    response_model=DatasetDetail,
    responses=problems(404),
    summary="Show a data set with its versions",
)
def show_dataset(name: RefInPath, service: TheService, owner: Owner) -> dict[str, Any]:
    """`digits` means its newest version, `digits@3` version 3."""
    with read(service.engine) as conn:
        if name in BUILTIN and not any(item["name"] == name for item in views.list_datasets(conn)):
            return {**_unregistered(service, name), "versions": []}
        return _shown(conn, name, owner)


def _shown(conn: Connection, ref: str, owner: str) -> dict[str, Any]:
    return ownership.with_owner(conn, [views.show(conn, ref)], owner)[0]


@router.get(
    "/{name}/sample",
    response_class=Response,
    responses=problems(404)
    | {
        200: {
            "description": "PNG of images, CSV or plain text.",
            "content": {"image/png": {}, "text/csv": {}, "text/plain": {}},
        }
    },
    summary="Preview a data set",
)
async def sample(name: RefInPath, service: TheService) -> Response:
    """Images: one picture with a row per class. Text: the first documents. Tables: the first rows as CSV. Files: names.

    Taken from the training part of the newest (or the named) version.
    """
    version = await run_in_threadpool(_resolve, service, name)
    if version is None:  # the first request for `digits` registers it
        version = await service.writers.run(registry.ensure_builtin, service.engine, service.settings, name)
    content, media_type = await run_in_threadpool(_sample, service, version)
    return Response(content, media_type=media_type)


def _sample(service: Service, version: DatasetVersion) -> tuple[bytes, str]:
    with registry.hold_dataset(service.settings, version) as folder:
        return previews.preview(folder)


def _resolve(service: Service, name: str) -> DatasetVersion | None:
    """Return the version; None for a built-in set of the package that is not registered yet. Raises NotFound."""
    try:
        with read(service.engine) as conn:
            return registry.resolve(conn, name)
    except NotFound:
        if name in AT_ONCE:
            return None
        if name in BUILTIN:
            raise NotFound(f"{name!r} is not registered yet: the first job that names it registers it.") from None
        raise


@router.post(
    "",
    status_code=201,
    response_model=DatasetDetail,
    responses=problems(400, 403, 409, 413, 415, 507),
    openapi_extra=_form({**_FILE, **_NAME}, "file", "name"),
    summary="Register a data set",
)
async def register(request: Request, response: Response, service: TheService, owner: Owner) -> dict[str, Any]:
    """Answers after the whole file was read.

    If you own a data set of this name, it gets a new version, unless the content equals its current version. Nothing
    of a refused file is kept.
    """
    async with received(request, service.settings, frozenset({"name", "kind", "format"})) as upload:
        if (name := upload.fields.get("name")) is None:
            raise InvalidRequest.field(("name",), "is required")
        register = partial(registry.register, kind=upload.fields.get("kind"))
        work = partial(_add, register, service, owner, name, upload)
        shown = await to_thread.run_sync(work, limiter=service.registering)
    response.headers["Location"] = f"/v1/datasets/{shown['name']}"
    return shown


def _add(add: Callable[..., DatasetVersion], service: Service, owner: str, name: str, upload: Upload) -> dict[str, Any]:
    chosen, engine = upload.fields.get("format"), service.engine
    version = add(engine, service.settings, name, upload.file, chosen, filename=upload.filename, owner_id=owner)
    with read(engine) as conn:
        return _shown(conn, f"{version.name}@{version.version}", owner)


def _may_append(name: NameInPath, service: TheService, owner: Owner) -> None:
    with read(service.engine) as conn:
        references.require(conn, name, owner)
        references.refuse_builtin(conn, name, owner)


@router.post(
    "/{name}/append",
    status_code=201,
    response_model=DatasetDetail,
    responses=problems(400, 403, 404, 409, 413, 415, 507),
    openapi_extra=_form(_FILE, "file"),
    dependencies=[Depends(_may_append)],  # before the file is received, which may be large
    summary="Append to a data set",
)
async def append(
    name: NameInPath, request: Request, response: Response, service: TheService, owner: Owner
) -> dict[str, Any]:
    """Creates a new version: the rows of the newest one followed by the file's.

    A file without parts is training data; the test part stays unchanged. Jobs that read an older version keep it.
    """
    async with received(request, service.settings, frozenset({"format"})) as upload:
        work = partial(_add, registry.append, service, owner, name, upload)
        shown = await to_thread.run_sync(work, limiter=service.registering)
    response.headers["Location"] = f"/v1/datasets/{name}@{shown['version']}"
    return shown


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    responses=problems(403, 404, 409),
    summary="Delete a data set version",
)
def delete_version(name: NameInPath, version: Version, service: TheService, owner: Owner) -> Response:
    """Refused while an unfinished job or a schedule needs it. The number is not reused."""
    with write(service.engine) as conn:
        references.delete_version(conn, name, version, owner)
    return Response(status_code=204)


def _unregistered(service: Service, name: str) -> dict[str, Any]:
    return {
        **dict.fromkeys(DatasetView.model_fields),
        "name": name,
        "builtin": True,
        "yours": False,
        "may_change": False,
        "availability": builtins.availability(service.settings, name),
    }
