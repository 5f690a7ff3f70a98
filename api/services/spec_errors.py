"""What pydantic says about a spec, in the words of the API: the field's place, and the way out; never the value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from api.http.json_body import MAX_ERRORS, Loc
from nightshift.errors import FieldError, InvalidRequest


def invalid_spec(error: ValidationError, spec: type[BaseModel], data: Mapping[str, Any]) -> InvalidRequest:
    """`error` came from validating `data` as `spec`."""
    found = [_field_error(item, spec, data) for item in error.errors(include_url=False, include_input=False)]
    named = ", ".join(sorted({".".join(map(str, item.loc))[:80] or "the body" for item in found})[:5])
    return InvalidRequest(f"The spec is not valid; see errors ({len(found)}): {named}.", found[:MAX_ERRORS])


def _field_error(item: Any, spec: type[BaseModel], data: Mapping[str, Any]) -> FieldError:
    loc = _place(item["loc"], data)
    if item["type"] == "extra_forbidden":
        return FieldError(loc, _unknown(loc, spec, data))
    if item["type"] == "missing":
        return FieldError(loc, "is required")
    return FieldError(loc, str(item["msg"]).removeprefix("Value error, "))


def _place(loc: Loc, data: Any) -> Loc:
    """`loc` without the names of union members that pydantic puts between the keys of the input."""
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


def _unknown(loc: Loc, spec: type[BaseModel], data: Mapping[str, Any]) -> str:
    *parents, name = loc
    owners = list(_specs_at(spec, parents, data))
    known = sorted({field for owner in owners for field in owner.model_fields})
    for owner in owners:
        for field, info in owner.model_fields.items():
            if any(name in inner.model_fields for inner in _models_in(info.annotation)):
                return f"unknown field here; it belongs in {field!r}"
    nearest = difflib.get_close_matches(str(name), known, n=1)
    if nearest:
        return f"unknown field; did you mean {nearest[0]!r}?"
    return f"unknown field; there are {', '.join(known)}"


def _specs_at(spec: type[BaseModel], path: Iterable[str | int], data: Any) -> list[type[BaseModel]]:
    """The models that may stand at `path`; of a family's models only the one that the input names."""
    owners = [spec]
    for part in path:
        data = data[part] if isinstance(data, dict) else None
        fields = [owner.model_fields[part] for owner in owners if isinstance(part, str) and part in owner.model_fields]
        owners = [model for field in fields for model in _models_in(field.annotation)]
    if isinstance(data, dict) and len(owners) > 1:
        named = [model for model in owners if data.get("family", "cnn") in _family(model)]
        owners = named or owners
    return owners


def _family(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("family")
    return get_args(field.annotation) if field else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
