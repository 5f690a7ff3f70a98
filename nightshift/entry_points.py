"""Entry points of families and programs: found, imported without ever being fatal, and checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Generic, TypeVar

from nightshift.versions import OURS, installed

T = TypeVar("T")

#: Files that an installation adds to those of the wheel.
_ADDED = re.compile(r"^\.\.|^/|\.pyc$|\.dist-info/(INSTALLER|RECORD|REQUESTED|direct_url\.json|uv_cache\.json)$")

#: Return why a declaration cannot be used under the name of its entry point, or None.
Check = Callable[[str, object], str | None]


@dataclass(frozen=True)
class Installed(Generic[T]):
    """An installed family or program, or why it cannot be used."""

    name: str
    #: The package that brings it, its version, and the hash of its list of files.
    distribution: str
    version: str
    record_sha256: str
    #: None: it cannot be used; `error` says why.
    declared: T | None
    error: str | None = None

    @property
    def package(self) -> str:
        """Return the package with its version: `nightshift-gbm 1.2`."""
        return f"{self.distribution} {self.version}"

    @property
    def is_builtin(self) -> bool:
        """Return whether it comes with Nightshift."""
        return self.distribution == OURS


def names_of(setting: str) -> tuple[str, ...]:
    """Return the names of a comma-separated setting."""
    return tuple(dict.fromkeys(name.strip() for name in setting.split(",") if name.strip()))


def find(points: Iterable[EntryPoint], check: Check) -> dict[str, Installed[T]]:
    """Return what the entry points lead to, by name.

    A name of two packages cannot be used, unless one of them is Nightshift: a built-in name cannot be taken.
    """
    found: dict[str, Installed[T]] = {}
    for point in points:
        first = found.get(point.name)
        found[point.name] = _load(point, check) if first is None else _doubled(first, point)
    return found


def points(group: str, allowed: Container[str] | None = None) -> list[EntryPoint]:
    """Return the entry points of a group whose name is allowed (None: all), those of Nightshift first."""
    offered = [point for point in entry_points(group=group) if allowed is None or point.name in allowed]
    return sorted(offered, key=lambda point: (not is_ours(point), point.name, _package(point)))


def is_ours(point: EntryPoint) -> bool:
    """Return whether an entry point is one of Nightshift's own."""
    return _package(point) == OURS


def missing(allowed: Iterable[str], found: Container[str]) -> Iterator[str]:
    """Yield the allowed names that no installed package brings."""
    yield from (name for name in allowed if name not in found)


def _load(point: EntryPoint, check: Check) -> Installed[T]:
    """Import a declaration. Any error, also of its import, becomes the error that is listed."""
    declared, error = None, None
    try:
        declared = point.load()
        error = check(point.name, declared)
    except BaseException as raised:  # SystemExit at import, too, must not end this process
        if isinstance(raised, KeyboardInterrupt):
            raise
        error = f"{point.value} cannot be imported: {type(raised).__name__}: {raised}"
    usable = declared if error is None else None
    distribution = point.dist
    version = distribution.version if distribution else ""
    return Installed(point.name, _package(point), version, _record_hash(distribution), usable, error)


def _doubled(first: Installed[T], point: EntryPoint) -> Installed[T]:
    if first.is_builtin:
        return first
    error = f"two packages have this name: {first.distribution} and {_package(point)}; uninstall one"
    return replace(first, declared=None, error=error)


def _package(point: EntryPoint) -> str:
    return str(point.dist.name) if point.dist else ""


def _record_hash(distribution: Distribution | None) -> str:
    """Return the hash of what the package's RECORD says of the wheel's own files.

    What pip adds differs between hosts that have the same wheel: compiled modules, scripts, where it came from.
    """
    lines = ((distribution.read_text("RECORD") if distribution else None) or "").splitlines()
    own = sorted(line for line in lines if not _ADDED.search(line.partition(",")[0]))
    return hashlib.sha256("\n".join(own).encode()).hexdigest()


def unmet(requires: str) -> str | None:
    """Return why this version of Nightshift does not satisfy a version specifier, or None."""
    ours = installed()
    if not requires or ours is None:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        if SpecifierSet(requires).contains(ours, prereleases=True):
            return None
    except InvalidSpecifier:
        return f"its `requires` is not a version specifier: {requires!r}"
    return f"it requires {OURS} {requires}; this is {ours}"


def check_reference(what: str, reference: str) -> None:
    """Raise ValueError unless the text has the form `package.module:function`."""
    module, _, function = reference.partition(":")
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{what} must be 'package.module:function'; it is {reference!r}")
