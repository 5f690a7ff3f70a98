"""Installed families and programs: found by entry point, offered only if the operator allows them, never fatal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nightshift import families, programs
from nightshift.entry_points import Check, Installed, find, is_ours, names_of, points, unmet
from nightshift.families.family import Family
from nightshift.metrics import Metric, declare
from nightshift.programs import Program

#: What stands for all families of Nightshift in the setting of offered families.
BUILTIN = "built-in"


def installed_programs(allowed: Iterable[str]) -> dict[str, Installed[Program]]:
    """Return the allowed programs that are installed, by name, and declare their metrics. Others are not imported."""
    return find(points(programs.GROUP, set(allowed)), _objection(Program, "program"))


def installed_families(allowed: Iterable[str] = ()) -> dict[str, Installed[Family]]:
    """Return the families of Nightshift and the allowed ones that are installed, by name. Others are not imported."""
    wanted = set(allowed)
    offered = [point for point in points(families.GROUP) if is_ours(point) or point.name in wanted]
    return find(offered, _objection(Family, "family"))


def offered_families(setting: str) -> tuple[str, ...]:
    """Return the names of families that a setting offers; `built-in`, or an empty one, means Nightshift's."""
    own = tuple(point.name for point in points(families.GROUP) if is_ours(point))
    named = names_of(setting) or (BUILTIN,)
    return tuple(dict.fromkeys(name for one in named for name in (own if one == BUILTIN else (one,))))


def _objection(expected: type[Family] | type[Program], kind: str) -> Check:
    """Return the check of a declaration of this class."""

    def objection(name: str, declared: object) -> str | None:
        if not isinstance(declared, expected):
            home = f"{expected.__module__.removesuffix('.family')}.{expected.__name__}"
            return f"its entry point leads to {type(declared).__name__}, not to a {home}"
        if declared.name != name:
            return f"its entry point is named {name!r} and its {expected.__name__} {declared.name!r}"
        return unmet(declared.requires) or _undeclarable(f"{kind} {name}", declared.metrics)

    return objection


def _undeclarable(owner: str, metrics: Mapping[str, Metric]) -> str | None:
    """Declare the metrics of a plug-in. Return why they cannot be, or None."""
    try:
        declare(owner, metrics)
    except ValueError as error:
        return str(error)
    return None
