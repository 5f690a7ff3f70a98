"""What jobs learn from. Data sets belong to the installation: every key sees them."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_owner
from api.deps import NameInPath, Service, TheService
from api.openapi import COMMON, problems
from api.schemas import DatasetDetail, DatasetView, Page
from api.upload import Upload, received
from shared.datasets import registry
from shared.datasets.builtins import BUILTIN
from shared.datasets.formats import FORMATS
from shared.datasets.models import DatasetVersion
from shared.datasets.samples import sample_picture, sample_texts
from shared.datasets.store import open_dataset
from shared.db.engine import read
from shared.errors import InvalidRequest, NotFound

router = APIRouter(prefix="/v1/datasets", tags=["data sets"], dependencies=[Depends(require_owner)])

_BETWEEN_TEXTS = f"\n{'-' * 40}\n"
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "name"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "One file; a folder as a zip."},
                        "name": {"type": "string", "examples": ["my-digits"]},
                        "format": {
                            "type": "string",
                            "enum": list(FORMATS),
                            "description": "Told by content without it.",
                        },
                    },
                }
            }
        },
    }
}


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


@router.get(
    "/{name}/sample",
    response_class=Response,
    responses=COMMON
    | problems(404)
    | {200: {"description": "PNG of images, or plain text.", "content": {"image/png": {}, "text/plain": {}}}},
    summary="A look at a data set",
)
def sample(name: NameInPath, service: TheService) -> Response:
    """Of images a picture with a row per class, of text its first documents; from the newest version's training part."""
    folder = registry.dataset_folder(service.settings, _resolve(service, name))
    if open_dataset(folder).kind == "image":
        return Response(sample_picture(folder), media_type="image/png")
    return Response(_BETWEEN_TEXTS.join(sample_texts(folder)), media_type="text/plain; charset=utf-8")


def _resolve(service: Service, name: str) -> DatasetVersion:
    """`digits` is registered by whoever looks at it first; the other built-in sets by the first job."""
    try:
        with read(service.engine) as conn:
            return registry.resolve(conn, name)
    except NotFound:
        if name == "digits":
            return registry.ensure_builtin(service.engine, service.settings, name)
        if name in BUILTIN:
            raise NotFound(f"Nobody has used {name!r} yet: the first job that names it registers it.") from None
        raise


@router.post(
    "",
    status_code=201,
    response_model=DatasetDetail,
    responses=COMMON | problems(400, 413, 415),
    openapi_extra=_FORM,
    summary="Register a data set",
)
async def register(request: Request, response: Response, service: TheService) -> dict[str, Any]:
    """Reads the whole file before it answers. A name that is there already gets a new version; content that it already
    has is its present version. Nothing of a file that is refused is kept."""
    folder, limit = service.settings.storage_root / "uploads", service.settings.max_upload_bytes
    async with received(request, folder, limit, frozenset({"name", "format"})) as upload:
        if "name" not in upload.fields:
            raise InvalidRequest.field(("name",), "is required")
        shown = await to_thread.run_sync(_register, service, upload, limiter=service.registering)
    response.headers["Location"] = f"/v1/datasets/{shown['name']}"
    return shown


def _register(service: Service, upload: Upload) -> dict[str, Any]:
    name, chosen = upload.fields["name"], upload.fields.get("format")
    version = registry.register(service.engine, service.settings, name, upload.file, chosen, filename=upload.filename)
    with read(service.engine) as conn:
        return registry.show(conn, f"{version.name}@{version.version}")


def _unregistered(name: str) -> dict[str, Any]:
    return {**dict.fromkeys(DatasetView.model_fields), "name": name, "builtin": True}
