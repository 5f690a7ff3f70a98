"""What the workers of this version can run. A kind, family or framework is enabled by adding it to the table; until
then the API refuses it by name instead of letting it wait for a worker that never comes."""

from __future__ import annotations

from collections.abc import Mapping

from nightshift.errors import FieldError
from nightshift.names import FAMILY_NAMES, FRAMEWORKS, KINDS, Framework

#: kind -> family -> frameworks with a learner (`worker/families/<family>/<framework>_learner.py`).
_BOTH: frozenset[Framework] = frozenset(FRAMEWORKS)
SUPPORTED: dict[str, dict[str, frozenset[Framework]]] = {kind: dict.fromkeys(FAMILY_NAMES, _BOTH) for kind in KINDS}

#: What people read for a kind.
KIND_LABELS = {"train": "Train", "finetune": "Fine-tune", "batch_infer": "Batch inference", "evaluate": "Evaluate"}


def kinds() -> list[str]:
    return list(SUPPORTED)


def frameworks_of(family: str) -> list[str]:
    """Frameworks in which any kind runs this family."""
    return sorted({framework for families in SUPPORTED.values() for framework in families.get(family, ())})


def kinds_of(family: str) -> list[str]:
    return [kind for kind, families in SUPPORTED.items() if family in families]


def objection(kind: str, family: str, framework: str, places: Mapping[str, tuple[str, ...]]) -> FieldError | None:
    """Why no worker can run this, at the place of the field to change (`places`: `family` and `framework`); or None."""
    families = SUPPORTED[kind]
    if family not in families:
        return FieldError(places["family"], f"{kind} does not run this family yet; it runs {', '.join(families)}")
    if framework not in families[family]:
        known = ", ".join(sorted(families[family]))
        return FieldError(
            places["framework"], f"{kind} of {family} does not run in this framework yet; it runs in {known}"
        )
    return None
