"""The layers of a model on the pages of its job and of its versions, read when a reader opens them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from api.flower.pages.base import Handler
from api.services import model_summary
from nightshift.errors import NotFound
from nightshift.families.summary import FILE
from shared.datasets import registry
from shared.jobs import queries
from shared.models import package
from shared.specs.families import FAMILIES
from shared.storage import storage_of

_LATER = "The layers are known when the job has succeeded."
_NONE = "This version has no summary: a program or an older Nightshift made it."


async def of_job(handler: Handler, job_id: str) -> dict[str, Any]:
    """Return the layers that the job has written, else those that its spec describes."""

    def select(conn: Connection) -> tuple[str | None, dict[str, Any]]:
        row = queries.get_job(conn, job_id, handler.owner)
        try:
            return queries.artifact(conn, job_id, FILE)["stored_as"], {}
        except NotFound:
            return None, _described(conn, row)

    stored_as, found = await handler.query(select)
    return await _read(handler, stored_as) if stored_as else found


async def of_version(handler: Handler, name: str, selector: str) -> dict[str, Any]:
    """Return the layers of a version of a model."""
    _, files = await handler.query(lambda conn: package.files_of(conn, name, selector))
    stored_as = next((file["stored_as"] for file in files if file["path"] == FILE), None)
    return await _read(handler, stored_as) if stored_as else {"layers": None, "error": _NONE}


async def _read(handler: Handler, stored_as: str) -> dict[str, Any]:
    def read() -> dict[str, Any]:
        with storage_of(handler.site.settings).reader(stored_as).open() as file:
            found: dict[str, Any] = json.loads(file.read())
        return found

    return await handler.off_loop(read)


def _described(conn: Connection, row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the layers of the spec's model on the data set that the job reads."""
    spec = row["spec"].get("model")
    family = FAMILIES.get(spec["family"]) if spec else None
    if family is None:
        return {"layers": None, "error": _LATER}
    try:
        model = family.model.model_validate_json(json.dumps(spec))
    except ValidationError:  # another version of its package wrote the spec
        return {"layers": None, "error": _LATER}
    ref = row["pinned"].get("dataset") or row["spec"]["dataset"]
    try:
        version = registry.resolve(conn, ref)
    except NotFound:
        return {**model_summary.described(model, None), "dataset": None}
    return {**model_summary.described(model, version.summary), "dataset": f"{version.name}@{version.version}"}
