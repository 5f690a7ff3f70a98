"""Model families: one package per family of Nightshift. What each offers stands in its `family.py`.

Code outside the packages gets a family's functions here, whoever brings the family.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from nightshift.families.family import Family
from nightshift.families.learner import Learner, LearnerSetup
from shared.errors import UnsupportedJob
from shared.specs.families import FAMILIES
from worker.references import function


def load(family: str, framework: str) -> Callable[[LearnerSetup], Learner]:
    """Return the `build` function of a family's learner. Imports only that framework. Raises UnsupportedJob."""
    reference = {str(name): one for name, one in _family(family).learners.items()}.get(framework)
    if reference is None:
        raise UnsupportedJob(f"this worker has no learner in {framework} for the family {family}")
    return cast("Callable[[LearnerSetup], Learner]", function(reference))


def part(family: str, name: str) -> Callable[..., Any]:
    """Return a function of a family that every family has, or that the job needs. Raises UnsupportedJob."""
    found = optional_part(family, name)
    if found is None:
        raise UnsupportedJob(f"the family {family} has no {name}")
    return found


def optional_part(family: str, name: str) -> Callable[..., Any] | None:
    """Return a function of `nightshift.families.Parts`, or None if the family has none. Raises UnsupportedJob."""
    reference = getattr(_family(family).parts, name)
    return None if reference is None else function(reference)


def _family(name: str) -> Family:
    found = FAMILIES.get(name)
    if found is not None:
        return found
    broken = FAMILIES.installed.get(name)
    why = f"it cannot be used: {broken.error}" if broken else f"there are {', '.join(FAMILIES)}"
    raise UnsupportedJob(f"this worker has no family {name}: {why}")
