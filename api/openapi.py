"""The OpenAPI document beyond what FastAPI generates: description, tags, problem documents."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import MEDIA_TYPE
from api.schemas import Problem

_DESCRIPTION = """
Takes **training**, **fine-tuning** and **batch-inference** jobs and runs them on workers.

Press *Authorize* and paste the key from `<data-dir>/api_key`. Every error is a problem document (RFC 9457,
`application/problem+json`) whose `errors` name the wrong fields. Every collection answers `{"items": […],
"next_cursor": …}`.

    curl -s -X POST $URL/v1/jobs -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
         -d '{"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"}'
"""

_TAGS = [
    {"name": "jobs", "description": "Submit, show and control jobs."},
    {"name": "results", "description": "Metrics, attempts, checkpoints, artifacts, logs and events of a job."},
    {"name": "data sets", "description": "Data for training, evaluation and inference."},
    {
        "name": "models",
        "description": "Versions of trained models, created by `register_as`, and aliases that point at them.",
    },
    {"name": "schedules", "description": "Jobs submitted by cron in a time zone."},
    {"name": "sweeps", "description": "Trials of a job with different parameters, chosen by their results."},
    {"name": "webhooks", "description": "Signed notifications of events, delivered at least once."},
    {"name": "service", "description": "Workers, families, health and metrics of the service."},
]

_REF = "#/components/schemas/{model}"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return `responses=` of a route: the problems it can answer with."""
    descriptions = {
        400: "Not parseable: JSON, cursor or Last-Event-ID.",
        401: "No valid key.",
        403: "Readable, but only its owner may change it.",
        404: "Not found, or it belongs to another owner.",
        405: "The path does not support this method.",
        409: "The current state does not allow this.",
        413: "The body is too large.",
        415: "The body has another content type.",
        416: "The range lies outside the file.",
        422: "A field or parameter is invalid; `errors` names it.",
        503: "The database does not answer; nothing was changed.",
        507: "The server's storage is full; nothing was kept.",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": descriptions[status], "content": content} for status in statuses}


#: Problems of every /v1 route.
COMMON = problems(401, 422, 503)


#: Additional problems of routes with a JSON body.
BODY = problems(400, 413, 415)


def install(app: FastAPI) -> None:
    """Make the app serve this document."""
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=_DESCRIPTION, tags=_TAGS, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template=_REF)
        schemas.update(schemas["Problem"].pop("$defs", {}))
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
