"""Versions of installed packages."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

OURS = "nightshift"


def installed(package: str = OURS) -> str | None:
    """Return the package's version; None where it is not installed, as Nightshift is not when run from its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those that are installed, in the given order."""
    return {package: found for package in packages if (found := installed(package))}
