"""Kinds, families and frameworks that the workers of this version can run.

The API refuses combinations for which no worker would ever claim the job.
"""

from __future__ import annotations

from collections.abc import Mapping

from nightshift.errors import FieldError
from nightshift.names import BATCH_INFER, KINDS, RUN
from shared.specs.families import FAMILIES

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
    return [kind for kind in KINDS if kind != RUN]


def kinds_of(family: str) -> list[str]:
    """Return the kinds that support a family: batch inference needs a task."""
    return [kind for kind in kinds() if kind != BATCH_INFER or FAMILIES[family].tasks]


def objection(kind: str, family: str, framework: str, places: Mapping[str, tuple[str, ...]]) -> FieldError | None:
    """Return why no worker can run a job, or None. `places`: field paths of `family` and `framework`."""
    able = [name for name in FAMILIES.offered if kind in kinds_of(name)]
    if family not in able:
        why = f"{kind} does not support" if family in FAMILIES.offered else "this server does not offer"
        return FieldError(places["family"], f"{why} the family {family}; use one of {', '.join(able)}")
    frameworks = FAMILIES[family].frameworks
    if framework not in frameworks:
        message = f"{kind} of {family} does not support this framework; use one of {', '.join(frameworks)}"
        return FieldError(places["framework"], message)
    return None
