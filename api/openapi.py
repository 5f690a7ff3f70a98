"""What /docs shows beyond what FastAPI sees by itself: the body that is parsed by hand, problems, examples to paste."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.errors import MEDIA_TYPE
from api.schemas import Problem
from api.services.job_spec import SPECS
from shared.specs import supported
from shared.specs.edits import JobPatch, Rerun
from shared.specs.families import FAMILIES
from shared.specs.models import AliasMove, ModelPatch, NewVersion, Rollback, VersionPatch
from shared.specs.schedules import SchedulePatch, ScheduleSpec
from shared.specs.webhooks import WebhookPatch, WebhookSpec

_DESCRIPTION = """
Takes **training**, **fine-tuning** and **batch-inference** jobs and runs them on workers.

Press *Authorize* and paste the key from `<data-dir>/api_key`. Every error is a problem document (RFC 9457,
`application/problem+json`) whose `errors` name the wrong fields. Every collection answers `{"items": […],
"next_cursor": …}`.

    curl -s -X POST $URL/v1/jobs -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\
         -d '{"kind": "train", "model": {"family": "cnn"}, "dataset": "digits"}'
"""

_TAGS = [
    {"name": "jobs", "description": "Submit, look at and steer jobs."},
    {"name": "results", "description": "What a job leaves: metrics, attempts, checkpoints, artifacts, logs, events."},
    {"name": "data sets", "description": "What jobs learn from."},
    {
        "name": "models",
        "description": "Versions of trained models, made by `register_as`, and aliases that point at them.",
    },
    {"name": "schedules", "description": "Jobs that come by themselves, by cron in a time zone."},
    {"name": "webhooks", "description": "Who is told what happens, signed and at least once."},
    {"name": "service", "description": "Workers, families and the state of the service."},
]

_REF = "#/components/schemas/{model}"

#: Shown beside POST /v1/jobs, by kind; a test submits every one that is shown.
EXAMPLES: dict[str, dict[str, Any]] = {
    "train": {
        "summary": "Train the CNN on the built-in digits",
        "value": {
            "kind": "train",
            "name": "digits nightly",
            "model": {"family": "cnn", "framework": "torch", "preset": "mnist-3conv"},
            "dataset": "digits",
            "training": {"epochs": 5, "batch_size": 64},
            "register_as": "digits",
        },
    },
    "train, every choice": {
        "summary": "A smaller model of your own: overrides, early stopping, checkpoints, a deadline",
        "value": {
            "kind": "train",
            "model": {
                "family": "cnn",
                "preset": "mnist-2conv",
                "filters": [16, 32],
                "dense": [64],
                "dropout": 0.2,
                "normalization": "batch",
            },
            "dataset": "digits",
            "training": {
                "epochs": 20,
                "batch_size": 32,
                "optimizer": "adamw",
                "learning_rate": 0.002,
                "lr_schedule": "cosine",
                "warmup_steps": 20,
                "grad_clip": 1.0,
                "seed": 7,
                "early_stopping": {"metric": "val_loss", "patience": 3},
                "augment": ["shift", "rotate"],
            },
            "checkpoint": {"every_steps": 50, "keep_last": 2, "keep_best": True},
            "resources": {"device": "cpu"},
            "priority": 7,
            "timeout_seconds": 3600,
            "tags": {"team": "vision"},
        },
    },
    "finetune": {
        "summary": "Go on from the champion of a registered model",
        "value": {
            "kind": "finetune",
            "model_ref": "digits",
            "dataset": "digits",
            "freeze": "features",
            "training": {"epochs": 2, "learning_rate": 0.0005},
        },
    },
    "batch_infer": {
        "summary": "Predict every row of a data set",
        "value": {"kind": "batch_infer", "model_ref": "digits", "dataset": "digits", "inference": {"output": "jsonl"}},
    },
    "batch_infer, generate": {
        "summary": "Let a registered language model continue two beginnings",
        "value": {
            "kind": "batch_infer",
            "model_ref": "shakespeare",
            "inference": {
                "task": "generate",
                "prompts": ["ROMEO:", "First Citizen:"],
                "max_new_tokens": 200,
                "temperature": 0.8,
                "top_k": 40,
                "seed": 1,
            },
        },
    },
    "evaluate": {
        "summary": "Measure a model on a data set",
        "value": {"kind": "evaluate", "model_ref": "digits@champion", "dataset": "digits"},
    },
}


def examples() -> dict[str, dict[str, Any]]:
    return {name: example for name, example in EXAMPLES.items() if example["value"]["kind"] in supported.kinds()}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: the problems it can answer with, besides those of every route."""
    said = {
        400: "Not parseable: JSON, cursor or Last-Event-ID.",
        401: "No valid key.",
        403: "It may be used, but only its owner may change it.",
        404: "There is no such thing, or it belongs to somebody else.",
        405: "The path does not take this method.",
        409: "The present state does not allow it.",
        413: "The body is too large.",
        415: "The body has another content type.",
        416: "The range lies outside the file.",
        422: "A field or parameter is wrong; `errors` names it.",
        503: "The database does not answer; nothing was changed.",
        507: "The server's storage has no room for it; nothing was kept.",
    }
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": said[status], "content": content} for status in statuses}


#: Every /v1 route can answer with these.
COMMON = problems(401, 422, 503)


def job_body() -> dict[str, Any]:
    """`openapi_extra` of POST /v1/jobs, whose body is parsed by hand."""
    refs = {kind: _REF.format(model=SPECS[kind].__name__) for kind in supported.kinds()}
    schema = {
        "oneOf": [{"$ref": ref} for ref in refs.values()],
        "discriminator": {"propertyName": "kind", "mapping": refs},
    }
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples()}}}
    }


#: Bodies that are parsed by hand, besides the jobs.
_BODIES: list[type[BaseModel]] = [
    JobPatch,
    Rerun,
    ScheduleSpec,
    SchedulePatch,
    AliasMove,
    Rollback,
    ModelPatch,
    NewVersion,
    VersionPatch,
    WebhookSpec,
    WebhookPatch,
]


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is parsed by hand."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def install(app: FastAPI) -> None:
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=_DESCRIPTION, tags=_TAGS, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(spec_schemas())
        schemas["Problem"] = Problem.model_json_schema(ref_template=_REF)
        schemas.update(schemas["Problem"].pop("$defs", {}))
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema


def spec_schemas() -> dict[str, Any]:
    """The schemas of the kinds that run, by name. A model's fields are optional in them: its preset fills them in."""
    running = [(model, "validation") for model in [*(SPECS[kind] for kind in supported.kinds()), *_BODIES]]
    _, document = models_json_schema(running, ref_template=_REF)  # type: ignore[arg-type]
    definitions: dict[str, Any] = document.get("$defs", {})
    for family in FAMILIES.values():
        definitions.get(family.model.__name__, {}).pop("required", None)
    return definitions
