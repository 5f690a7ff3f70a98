"""Installed programs: found by entry point, offered only if the operator allows them, never fatal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points

from nightshift.metrics import declare
from nightshift.programs import GROUP, Program
from nightshift.versions import OURS, installed

#: Files that an installation adds to those of the wheel.
_ADDED = re.compile(r"^\.\.|^/|\.pyc$|\.dist-info/(INSTALLER|RECORD|REQUESTED|direct_url\.json|uv_cache\.json)$")


@dataclass(frozen=True)
class InstalledProgram:
    """An installed program, or why it cannot be used."""

    name: str
    #: The package that brings it, its version, and the hash of its list of files.
    distribution: str
    version: str
    record_sha256: str
    #: None: it cannot be used; `error` says why.
    program: Program | None
    error: str | None = None

    @property
    def package(self) -> str:
        """Return the package with its version: `nightshift-gbm 1.2`."""
        return f"{self.distribution} {self.version}"


def names_of(setting: str) -> tuple[str, ...]:
    """Return the names of a comma-separated setting."""
    return tuple(dict.fromkeys(name.strip() for name in setting.split(",") if name.strip()))


def installed_programs(allowed: Iterable[str]) -> dict[str, InstalledProgram]:
    """Return the allowed programs that are installed, by name, and declare their metrics.

    Others are not imported.
    """
    found: dict[str, InstalledProgram] = {}
    wanted = set(allowed)
    if not wanted:
        return found
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, _package(point))):
        if point.name not in wanted:
            continue
        if point.name in found:
            found[point.name] = _doubled(found[point.name], point)
        else:
            found[point.name] = _load(point)
    return found


def missing(allowed: Iterable[str], found: Mapping[str, InstalledProgram]) -> Iterator[str]:
    """Yield the allowed names that no installed package brings."""
    yield from (name for name in allowed if name not in found)


def _load(point: EntryPoint) -> InstalledProgram:
    """Import a program's declaration. Any error, also of its import, becomes the error that is listed."""
    program, error = None, None
    try:
        program = point.load()
        error = _objection(point.name, program) or _declare(program)
    except BaseException as raised:  # SystemExit at import, too, must not end this process
        if isinstance(raised, KeyboardInterrupt):
            raise
        error = f"{point.value} cannot be imported: {type(raised).__name__}: {raised}"
    usable = program if error is None else None
    distribution = point.dist
    version = distribution.version if distribution else ""
    return InstalledProgram(point.name, _package(point), version, _record_hash(distribution), usable, error)


def _objection(name: str, program: object) -> str | None:
    """Return why a declaration cannot be used, or None."""
    if not isinstance(program, Program):
        return f"its entry point leads to {type(program).__name__}, not to a nightshift.programs.Program"
    if program.name != name:
        return f"its entry point is named {name!r} and its Program {program.name!r}"
    ours = installed()
    if program.requires and ours is not None:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            if not SpecifierSet(program.requires).contains(ours, prereleases=True):
                return f"it requires {OURS} {program.requires}; this is {ours}"
        except InvalidSpecifier:
            return f"its `requires` is not a version specifier: {program.requires!r}"
    return None


def _declare(program: Program) -> str | None:
    """Declare the program's metrics. Return why they cannot be, or None."""
    try:
        declare(f"program {program.name}", program.metrics)
    except ValueError as error:
        return str(error)
    return None


def _doubled(first: InstalledProgram, point: EntryPoint) -> InstalledProgram:
    error = f"two packages have a program of this name: {first.distribution} and {_package(point)}; uninstall one"
    return InstalledProgram(first.name, first.distribution, first.version, first.record_sha256, None, error)


def _package(point: EntryPoint) -> str:
    return str(point.dist.name) if point.dist else ""


def _record_hash(distribution: Distribution | None) -> str:
    """Return the hash of what the package's RECORD says of the wheel's own files.

    What pip adds differs between hosts that have the same wheel: compiled modules, scripts, where it came from.
    """
    lines = ((distribution.read_text("RECORD") if distribution else None) or "").splitlines()
    own = sorted(line for line in lines if not _ADDED.search(line.partition(",")[0]))
    return hashlib.sha256("\n".join(own).encode()).hexdigest()
