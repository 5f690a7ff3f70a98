"""Facts about kinds, families and metrics for the scripts of the pages: the tables of shared/specs as JSON."""

from __future__ import annotations

from functools import cache
from typing import Any

from nightshift import metrics
from nightshift.families.family import Family
from nightshift.names import KINDS
from shared.specs import supported
from shared.specs.families import FAMILIES
from shared.specs.jobs import SPECS


def facts() -> dict[str, Any]:
    """Return {kinds, families, metrics} for static/js/facts.js."""
    return {**_of_specs(), "metrics": metrics.facts()}


@cache
def _of_specs() -> dict[str, Any]:
    return {
        "kinds": [_kind(name) for name in KINDS],
        "families": [_family(name, family) for name, family in FAMILIES.items()],
    }


def _kind(name: str) -> dict[str, Any]:
    """Return a kind. `makesModel`: it creates a new model; others start from an existing one (`model_ref`)."""
    fields = SPECS[name].model_fields
    return {
        "name": name,
        "label": supported.KIND_LABELS[name],
        "makesModel": "model" in fields,
        "trains": "training" in fields,
        "infers": "inference" in fields,
        "runsProgram": "program" in fields,
        "needsDataset": fields["dataset"].is_required(),
    }


def _family(name: str, family: Family) -> dict[str, Any]:
    return {"name": name, "datasetKind": family.dataset_kind, "inference": _example(family)}


def _example(family: Family) -> dict[str, Any]:
    """Return the most common batch inference of the family: a valid `inference` of a spec."""
    if "generate" not in family.tasks:
        return {"task": family.tasks[0]} if family.tasks else {}
    return {"task": "generate"} | ({"prompts": ["Once upon a time"]} if family.prompted else {"count": 64})
