"""Run again, edited: a new job from the spec of one that was there, which remembers where it came from and what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from api.dependencies import Service
from api.services import submission
from api.services.job_spec import Spec
from api.services.schedules import parse
from nightshift.errors import InvalidRequest
from shared.jobs.transitions import Submitted
from shared.specs.edits import Rerun

#: Of a change that is remembered: how many, and how long a value may be (characters as JSON).
MAX_CHANGES, MAX_VALUE = 100, 200
#: When it runs is a new job's own business: at once, and after nobody, unless it says so.
_NOT_COPIED: dict[str, Any] = {"run_at": None, "after": []}
#: Nor what one job has for itself, or does to the registry: a name for two, a model version that nobody asked for.
ONLY_IF_ASKED = ("name", "register_as", "promote")
#: What stays of a model whose family or preset is another: the rest was filled in by the preset it had.
_OF_ANY_MODEL = ("family", "preset", "framework")


def rerun(
    service: Service,
    owner_id: str,
    origin: Mapping[Any, Any],
    data: Any,
    key: str | None,
    headers: Mapping[str, str] | None = None,
) -> tuple[Spec, Submitted]:
    """`origin` is the row of the job that was there, `data` a `Rerun`. The new job is `owner_id`'s."""
    asked = parse(data, Rerun)
    base = copy_of(origin["spec"], asked.set) if asked.spec is None else asked.spec
    body = changed(base, asked.set)
    return submission.accept(service, owner_id, body, key, headers, like=lambda spec: copied_from(origin, spec))


def copied_from(origin: Mapping[Any, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """What a job remembers of the one it was copied from."""
    return {"id": origin["id"], "name": origin["name"], "changes": differences(origin["spec"], spec)}


def copy_of(spec: Mapping[str, Any], asked_for: Iterable[str] = ()) -> dict[str, Any]:
    """What a new job takes over from the spec of another; of `ONLY_IF_ASKED` what these dotted paths lie in."""
    sections = {path.partition(".")[0] for path in asked_for}
    left_out = {name: None for name in ONLY_IF_ASKED if name in spec and name not in sections}
    return {**spec, **_NOT_COPIED, **left_out}


def changed(spec: Mapping[str, Any], sets: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the values put under their dotted paths. Raises InvalidRequest."""
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
    """[{path, before, after}] of two complete specs, in the order of the second; not what a copy leaves out by itself."""
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
