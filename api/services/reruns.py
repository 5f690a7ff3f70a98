"""Copies of jobs: the copied part of the spec, and the record of the origin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from nightshift.errors import InvalidRequest
from nightshift.families.optimizers import OF_AN_OPTIMIZER, foreign_constants
from shared.specs.edits import Rerun

#: Recorded changes: their largest number, and the longest value (characters as JSON).
MAX_CHANGES, MAX_VALUE = 100, 200
#: Not copied: the new job runs at once and waits for no other job, unless requested.
_NOT_COPIED: dict[str, Any] = {"run_at": None, "after": []}
#: Copied only if requested: a name belongs to one job, and the others change the registry.
ONLY_IF_REQUESTED = ("name", "register_as", "promote")
#: Fields of a model that are kept when its family or preset changes: the old preset had filled in the others.
_OF_ANY_MODEL = ("family", "preset", "framework")


def body_of(origin: Mapping[Any, Any], asked: Rerun) -> dict[str, Any]:
    """Return the body of the new job. `origin` is the row of the job that is copied. Raises InvalidRequest."""
    base = copy_of(origin["spec"], asked.set) if asked.spec is None else asked.spec
    return changed(base, asked.set)


def copied_from(origin: Mapping[Any, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the origin, with the changes to this complete spec."""
    return {"id": origin["id"], "name": origin["name"], "changes": differences(origin["spec"], spec)}


def copy_of(spec: Mapping[str, Any], requested: Iterable[str] = ()) -> dict[str, Any]:
    """Return the spec for a new job; of `ONLY_IF_REQUESTED` it keeps fields that the dotted paths begin with."""
    sections = {path.partition(".")[0] for path in requested}
    omitted = {name: None for name in ONLY_IF_REQUESTED if name in spec and name not in sections}
    copy = {**spec, **_NOT_COPIED, **omitted}
    if isinstance(training := spec.get("training"), Mapping):  # older specs have constants that did nothing
        copy["training"] = _without(training, foreign_constants(training))
    return copy


def changed(spec: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec with the values set at their dotted paths. Raises InvalidRequest.

    Another preset replaces the model's other fields, another optimizer the learning rate and the optimizer's constants.
    """
    body = deepcopy(dict(spec))
    if {"model.family", "model.preset"} & set(sets) and isinstance(body.get("model"), dict):
        kept = _OF_ANY_MODEL if "model.preset" in sets else ("family", "framework")
        body["model"] = {name: body["model"][name] for name in kept if name in body["model"]}
    training, optimizer = body.get("training"), sets.get("training.optimizer")
    if optimizer and isinstance(training, dict) and optimizer != training.get("optimizer"):
        body["training"] = _without(training, OF_AN_OPTIMIZER)
    for path, value in sets.items():
        _put(body, path.split("."), value)
    return body


def _without(section: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in set(names)}


def _put(body: dict[str, Any], path: list[str], value: Any) -> None:
    section: Any = body
    for depth, name in enumerate(path[:-1]):
        if section.get(name) is None:  # a section that was null, e.g. `early_stopping`
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            raise InvalidRequest.field(tuple(path[: depth + 1]), f"holds no fields, so there is no {'.'.join(path)!r}")
    section[path[-1]] = value


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return [{path, before, after}] of two complete specs, in the order of the second, without uncopied fields."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    paths = [path for path in dict.fromkeys([*new, *old]) if old.get(path) != new.get(path)]
    omitted = {*_NOT_COPIED, *(name for name in ONLY_IF_REQUESTED if after.get(name) is None)}
    shown = [path for path in paths if path[0] not in omitted]
    return [
        {"path": ".".join(path), "before": _short(old.get(path)), "after": _short(new.get(path))}
        for path in shown[:MAX_CHANGES]
    ]


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
    else:
        yield path, value


def _short(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"
