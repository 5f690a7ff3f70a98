"""Installed families and programs: found by entry point, offered only if the operator allows them, never fatal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nightshift import families, programs
from nightshift.entry_points import Installed, find, is_ours, names_of, points, unmet
from nightshift.families.family import Family
from nightshift.metrics import Metric, declare
from nightshift.programs import Program

#: What stands for all families of Nightshift in the setting of offered families.
BUILTIN = "built-in"


def installed_programs(allowed: Iterable[str]) -> dict[str, Installed[Program]]:
    """Return the allowed programs that are installed, by name, and declare their metrics. Others are not imported."""
    return find(points(programs.GROUP, set(allowed)), _program_objection)


def installed_families(allowed: Iterable[str] = ()) -> dict[str, Installed[Family]]:
    """Return the families of Nightshift and the allowed ones that are installed, by name. Others are not imported."""
    wanted = set(allowed)
    offered = [point for point in points(families.GROUP) if is_ours(point) or point.name in wanted]
    return find(offered, _family_objection)


def offered_families(setting: str) -> tuple[str, ...]:
    """Return the names of families that a setting offers; `built-in`, or an empty one, means Nightshift's."""
    own = tuple(point.name for point in points(families.GROUP) if is_ours(point))
    named = names_of(setting) or (BUILTIN,)
    return tuple(dict.fromkeys(name for one in named for name in (own if one == BUILTIN else (one,))))


def _program_objection(name: str, program: object) -> str | None:
    """Return why a program cannot be used, or None."""
    if not isinstance(program, Program):
        return f"its entry point leads to {type(program).__name__}, not to a nightshift.programs.Program"
    if program.name != name:
        return f"its entry point is named {name!r} and its Program {program.name!r}"
    return unmet(program.requires) or _undeclarable(f"program {name}", program.metrics)


def _family_objection(name: str, family: object) -> str | None:
    """Return why a family cannot be used, or None."""
    if not isinstance(family, Family):
        return f"its entry point leads to {type(family).__name__}, not to a nightshift.families.Family"
    if family.name != name:
        return f"its entry point is named {name!r} and its Family {family.name!r}"
    return unmet(family.requires) or _undeclarable(f"family {name}", family.metrics)


def _undeclarable(owner: str, metrics: Mapping[str, Metric]) -> str | None:
    """Declare the metrics of a plug-in. Return why they cannot be, or None."""
    try:
        declare(owner, metrics)
    except ValueError as error:
        return str(error)
    return None
