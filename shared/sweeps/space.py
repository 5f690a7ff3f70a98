"""The space of a sweep: which parameters a trial has, the points of a grid, and a job with the values set.

Pure functions of `Parameter`s by dotted path.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from decimal import Decimal
from itertools import islice
from typing import Any

from nightshift.errors import InvalidRequest
from shared.specs.sweeps import MAX_TRIALS, Parameter

Space = Mapping[str, Parameter]
Values = dict[str, Any]

#: First parts of paths that a sweep may vary; other fields change how a job runs and not what it learns.
VARIED = ("model", "training", "params", "dataset", "model_ref", "framework", "freeze", "seed")


def read(stored: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return the space that a row of `sweeps` holds."""
    return {path: Parameter.model_validate(one) for path, one in stored.items()}


def refuse_unusable(space: Space) -> None:
    """Raise InvalidRequest for a path that cannot be varied, and for a condition that can never hold."""
    for path, parameter in space.items():
        if path.split(".")[0] not in VARIED:
            raise _invalid((path,), f"cannot be varied; paths begin with {', '.join(VARIED)}")
        inside = next((other for other in space if other.startswith(f"{path}.")), None)
        if inside is not None:
            raise _invalid((inside,), f"lies inside of {path!r}, which is a parameter, too; leave one of them out")
        for other, wanted in parameter.when.items():
            _check_condition(space, path, other, wanted)
    ordered(space)


def _check_condition(space: Space, path: str, other: str, wanted: Any) -> None:
    place = (path, "when", other)
    if other not in space:
        raise _invalid(place, f"is no parameter of this space; there are {', '.join(space)}")
    if not _listed(wanted):
        raise _invalid(place, "has no value; give one, or leave the condition out")
    for value in _listed(wanted):
        if not _possible(space[other], value):
            raise _invalid(place, f"{value!r} is no value of {other!r}, so the parameter would never be used")


def _possible(parameter: Parameter, value: Any) -> bool:
    if parameter.choices is not None:
        return value in parameter.choices
    assert parameter.low is not None
    assert parameter.high is not None
    return isinstance(value, int | float) and parameter.low <= value <= parameter.high


def ordered(space: Space) -> list[str]:
    """Return the paths, each after those that its condition names. Raises InvalidRequest for a circle."""
    found: list[str] = []
    left = list(space)
    while left:
        ready = [path for path in left if set(space[path].when) <= set(found)]
        if not ready:
            raise _invalid((left[0], "when"), f"the conditions of {', '.join(left)} go in a circle")
        found += ready
        left = [path for path in left if path not in ready]
    return found


def is_used(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Return whether a trial with these values of the parameters before it has the parameter."""
    return all(other in values and values[other] in _listed(wanted) for other, wanted in parameter.when.items())


def _listed(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


# -- points ---------------------------------------------------------------------------------------


def grid(space: Space) -> Iterator[Values]:
    """Yield the points of a grid: every combination of values, and no point twice. The last parameter varies first."""
    yield from _points(space, ordered(space), {})


def grid_size(space: Space) -> int:
    """Return the number of a grid's points, at most `MAX_TRIALS` + 1. Raises InvalidRequest for an endless one."""
    for path, parameter in space.items():
        if parameter.type == "float" and parameter.step is None:
            raise _invalid((path, "step"), "is required for a float in a grid; or give choices")
    return sum(1 for _ in islice(grid(space), MAX_TRIALS + 1))


def _points(space: Space, paths: list[str], values: Values) -> Iterator[Values]:
    if not paths:
        yield values
        return
    path, *rest = paths
    if not is_used(space[path], values):
        yield from _points(space, rest, values)
        return
    for value in values_of(space[path]):
        yield from _points(space, rest, {**values, path: value})


def values_of(parameter: Parameter) -> Iterable[Any]:
    """Return the values of a parameter, which must be choices, whole numbers or have a step."""
    if parameter.choices is not None:
        return parameter.choices
    low, high, step = _decimals(parameter)
    if parameter.type == "int":
        return range(int(low), int(high) + 1, int(step))
    return (float(low + place * step) for place in range(math.floor((high - low) / step) + 1))


def last_of(parameter: Parameter) -> float:
    """Return the greatest value of a parameter with a step."""
    low, high, step = _decimals(parameter)
    return float(low + math.floor((high - low) / step) * step)


def _decimals(parameter: Parameter) -> tuple[Decimal, Decimal, Decimal]:
    low, high, step = (Decimal(str(one)) for one in (parameter.low, parameter.high, parameter.step or 1))
    return low, high, step


def bounds(space: Space) -> Iterator[tuple[str, str | int, Values]]:
    """Yield each bound and each choice as (path, its field or place among the choices, a point of the space with it).

    The other parameters have their first value, or the one that the conditions ask for. Where these contradict each
    other there is no such point.
    """
    for path, parameter in space.items():
        for place, value in _ends(parameter):
            point = _point_with(space, {**_needed(space, path), path: value})
            if path in point:
                yield path, place, point


def _ends(parameter: Parameter) -> Iterator[tuple[str | int, Any]]:
    if parameter.choices is not None:
        yield from enumerate(parameter.choices)
    else:
        for name in ("low", "high"):
            value = getattr(parameter, name)
            yield name, float(value) if parameter.type == "float" else value


def _needed(space: Space, path: str) -> Values:
    """Return the values of other parameters under which this one is used."""
    found: Values = {}
    for other, wanted in space[path].when.items():
        found |= {**_needed(space, other), other: _listed(wanted)[0]}
    return found


def _point_with(space: Space, fixed: Values) -> Values:
    values: Values = {}
    for path in ordered(space):
        if is_used(space[path], values):
            values[path] = fixed[path] if path in fixed else next(_ends(space[path]))[1]
    return values


# -- jobs -----------------------------------------------------------------------------------------


def assigned(job: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a job with the values set at their paths. Raises InvalidRequest."""
    body = deepcopy(dict(job))
    for path, value in values.items():
        *folders, last = path.split(".")
        section: Any = body
        for depth, name in enumerate(folders, 1):
            if section.get(name) is None:  # left out, or a section that is null
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                raise _invalid((path,), f"{'.'.join(folders[:depth])} holds no fields")
        section[last] = deepcopy(value)
    return body


def is_at(spec: Any, path: str) -> bool:
    """Return whether a complete spec has a field at this path."""
    for name in path.split("."):
        if not isinstance(spec, Mapping) or name not in spec:
            return False
        spec = spec[name]
    return True


def _invalid(place: tuple[str, ...], message: str) -> InvalidRequest:
    return InvalidRequest.field(("space", *place), message)
