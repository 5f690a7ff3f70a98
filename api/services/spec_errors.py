"""Parse specs. Pydantic's errors become InvalidRequest with the field's path and a remedy, never the value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from api.http.json_body import MAX_ERRORS, Loc
from nightshift.errors import FieldError, InvalidRequest
from nightshift.families.fields import ModelSpec
from shared.specs.families import FAMILIES
from shared.specs.jobs import AnyJob, JobSpec

M = TypeVar("M", bound=BaseModel)


def parse(data: Any, spec: type[M]) -> M:
    """Validate `data` as a spec. Raises InvalidRequest that names every wrong field."""
    parsed: M = parse_as(data, spec)
    return parsed


def parse_as(data: Any, annotation: Any) -> Any:
    """Validate `data` as a spec or a union of specs, such as `JobSpec`. Raises InvalidRequest."""
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.", [FieldError((), "must be a JSON object")])
    try:
        return _adapter(annotation).validate_python(data)
    except ValidationError as error:
        raise invalid_spec(error.errors(include_url=False, include_input=False), annotation, data) from None


def parse_spec(data: Any) -> AnyJob:
    """Validate `data` as a job spec; fill in presets. Raises InvalidRequest that names every wrong field."""
    spec: AnyJob = parse_as(data, JobSpec)
    return spec


@lru_cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def invalid_spec(errors: Sequence[Mapping[str, Any]], annotation: Any, data: Mapping[str, Any]) -> InvalidRequest:
    """Return the error for pydantic's `errors` from validating `data` as `annotation`."""
    found = [_field_error(item, annotation, data) for item in errors]
    named = ", ".join(sorted({".".join(map(str, item.loc))[:80] or "the body" for item in found})[:5])
    return InvalidRequest(f"The spec is not valid; see errors ({len(found)}): {named}.", found[:MAX_ERRORS])


def _field_error(item: Mapping[str, Any], annotation: Any, data: Mapping[str, Any]) -> FieldError:
    loc = _place(item["loc"], data)
    if item["type"] == "extra_forbidden":
        return FieldError(loc, _unknown(loc, annotation, data))
    if item["type"] == "missing":
        return FieldError(loc, "is required")
    return FieldError(loc, str(item["msg"]).removeprefix("Value error, "))


def _place(loc: Loc, data: Any) -> Loc:
    """Return `loc` without the names of union members that pydantic puts between the keys of the input."""
    place: list[str | int] = []
    for position, part in enumerate(loc):
        inside = dict(enumerate(data)) if isinstance(data, list) else data if isinstance(data, dict) else {}
        last = position == len(loc) - 1
        if part in inside:
            data = inside[part]
        elif not (last and isinstance(data, dict)):
            continue
        place.append(part)
    return tuple(place)


def _unknown(loc: Loc, annotation: Any, data: Mapping[str, Any]) -> str:
    *parents, name = loc
    owners = _specs_at(annotation, parents, data)
    known = sorted({field for owner in owners for field in owner.model_fields})
    for owner in owners:
        for field, info in owner.model_fields.items():
            if any(name in inner.model_fields for inner in _models_in(info.annotation)):
                return f"unknown field here; it belongs in {field!r}"
    nearest = difflib.get_close_matches(str(name), known, n=1)
    if nearest:
        return f"unknown field; did you mean {nearest[0]!r}?"
    return f"unknown field; known fields are {', '.join(known)}"


def _specs_at(annotation: Any, path: Iterable[str | int], data: Any) -> list[type[BaseModel]]:
    """Return the models that are allowed at `path`; of a union only the one that the input names."""
    owners = _named(_models_in(annotation), data)
    for part in path:
        data = data[part] if isinstance(data, dict) else None
        fields = [owner.model_fields[part] for owner in owners if isinstance(part, str) and part in owner.model_fields]
        owners = _named([model for field in fields for model in _models_in(field.annotation)], data)
    return owners


def _named(models: list[type[BaseModel]], data: Any) -> list[type[BaseModel]]:
    """Return the union members whose `kind` or `family` the input has, or all."""
    if not isinstance(data, dict) or len(models) < 2:
        return models
    return [model for model in models if _names(model, "kind", data) or _names(model, "family", data)] or models


def _names(model: type[BaseModel], name: str, data: Mapping[str, Any]) -> bool:
    field = model.model_fields.get(name)
    return field is not None and data.get(name, FAMILIES.default) in get_args(field.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if annotation is ModelSpec:
        return [family.model for family in FAMILIES.values()]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
