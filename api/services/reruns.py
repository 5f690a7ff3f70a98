"""Copies of jobs: what a copy takes over, and what it keeps about its origin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from nightshift.errors import InvalidRequest
from shared.specs.edits import Rerun

#: Changes that are remembered: how many, and how long a value may be (characters as JSON).
MAX_CHANGES, MAX_VALUE = 100, 200
#: Not copied: the new job runs at once and waits for no other job, unless the request says so.
_NOT_COPIED: dict[str, Any] = {"run_at": None, "after": []}
#: Copied only if asked for: a name for one job, or a change of the registry.
ONLY_IF_ASKED = ("name", "register_as", "promote")
#: Fields of a model that stay when its family or preset changes: the preset it had filled in the others.
_OF_ANY_MODEL = ("family", "preset", "framework")


def body_of(origin: Mapping[Any, Any], asked: Rerun) -> dict[str, Any]:
    """Return the body of the new job. `origin` is the row of the job that is copied. Raises InvalidRequest."""
    base = copy_of(origin["spec"], asked.set) if asked.spec is None else asked.spec
    return changed(base, asked.set)


def copied_from(origin: Mapping[Any, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Return what a job with this complete spec keeps about the job that it was copied from."""
    return {"id": origin["id"], "name": origin["name"], "changes": differences(origin["spec"], spec)}


def copy_of(spec: Mapping[str, Any], asked_for: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a new job takes over; of `ONLY_IF_ASKED` the fields that these dotted paths lie in."""
    sections = {path.partition(".")[0] for path in asked_for}
    left_out = {name: None for name in ONLY_IF_ASKED if name in spec and name not in sections}
    return {**spec, **_NOT_COPIED, **left_out}


def changed(spec: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec with the values set at their dotted paths. Raises InvalidRequest."""
    body = deepcopy(dict(spec))
    if {"model.family", "model.preset"} & set(sets) and isinstance(body.get("model"), dict):
        kept = _OF_ANY_MODEL if "model.preset" in sets else ("family", "framework")
        body["model"] = {name: body["model"][name] for name in kept if name in body["model"]}
    for path, value in sets.items():
        _put(body, path.split("."), value)
    return body


def _put(body: dict[str, Any], path: list[str], value: Any) -> None:
    here: Any = body
    for depth, name in enumerate(path[:-1]):
        if here.get(name) is None:  # a section that was null, `early_stopping` say
            here[name] = {}
        here = here[name]
        if not isinstance(here, dict):
            raise InvalidRequest.field(tuple(path[: depth + 1]), f"holds no fields, so there is no {'.'.join(path)!r}")
    here[path[-1]] = value


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return [{path, before, after}] of two complete specs, in the second one's order, without what no copy takes over."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    paths = [path for path in dict.fromkeys([*new, *old]) if old.get(path) != new.get(path)]
    left_out = {*_NOT_COPIED, *(name for name in ONLY_IF_ASKED if after.get(name) is None)}
    shown = [path for path in paths if path[0] not in left_out]
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
