"""Plug-ins of a worker, as its row in SQL and its claims have them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstalledPlugin:
    """A plug-in that a worker has. `plugin` is its kind and name: `program gbm`."""

    plugin: str
    package: str  # distribution and version
    record: str  # hash of the package's list of files
    state_version: int = 1
    loads: tuple[int, ...] | list[int] = ()
    #: What a program declares of a resumed run: `exact`, `resumable` or `restart`; None: a family.
    promise: str | None = None

    @property
    def states(self) -> list[int]:
        """The state versions of other builds whose checkpoints it continues."""
        return sorted(set(self.loads))

    def continues(self, record: str | None, state_version: int | None) -> bool:
        """Return whether it may run a job that is pinned to this version; None: not pinned yet."""
        return record in (None, self.record) or state_version in self.states


def program_plugin(name: str) -> str:
    """Return the plug-in of a program."""
    return f"program {name}"


def family_plugin(name: str) -> str:
    """Return the plug-in of a family."""
    return f"family {name}"
