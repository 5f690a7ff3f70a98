"""Kinds, families and frameworks that the workers of this version can run.

The API refuses combinations that are not in the table, for which no worker would ever claim the job.
"""

from __future__ import annotations

from collections.abc import Mapping

from nightshift.errors import FieldError
from nightshift.names import FAMILY_NAMES, FRAMEWORKS, KINDS, RUN, Framework

#: kind -> family -> frameworks with a learner (`worker/families/<family>/<framework>_learner.py`).
_BOTH: frozenset[Framework] = frozenset(FRAMEWORKS)
SUPPORTED: dict[str, dict[str, frozenset[Framework]]] = {
    kind: dict.fromkeys(FAMILY_NAMES, _BOTH) for kind in KINDS if kind != RUN
}

#: What people read for a kind.
KIND_LABELS = {
    "train": "Train",
    "finetune": "Fine-tune",
    "batch_infer": "Batch inference",
    "evaluate": "Evaluate",
    "run": "Program",
}


def kinds() -> list[str]:
    """Return the kinds of jobs that families have a part in."""
    return list(SUPPORTED)


def frameworks_of(family: str) -> list[str]:
    """Return the frameworks of a family, over all kinds."""
    return sorted({framework for families in SUPPORTED.values() for framework in families.get(family, ())})


def kinds_of(family: str) -> list[str]:
    """Return the kinds that support a family."""
    return [kind for kind, families in SUPPORTED.items() if family in families]


def objection(kind: str, family: str, framework: str, places: Mapping[str, tuple[str, ...]]) -> FieldError | None:
    """Return why no worker can run a job, or None. `places`: field paths of `family` and `framework`."""
    families = SUPPORTED[kind]
    if family not in families:
        return FieldError(places["family"], f"{kind} does not support this family; use one of {', '.join(families)}")
    if framework not in families[family]:
        known = ", ".join(sorted(families[family]))
        return FieldError(
            places["framework"], f"{kind} of {family} does not support this framework; use one of {known}"
        )
    return None
