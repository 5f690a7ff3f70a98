"""Summaries of models that are not trained yet: the layers that their family declares, in plain Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.dependencies import Service
from api.services import dataset_fit
from api.services.submission import dataset_version, refuse
from nightshift.families.fields import ModelSpec
from nightshift.families.summary import summarize
from nightshift.names import TRAIN
from shared.datasets.models import DatasetVersion
from shared.specs import supported
from shared.specs.summaries import SummaryOf


def of_model(service: Service, asked: SummaryOf) -> dict[str, Any]:
    """Return the summary, like that of a job of this model and data set. Raises InvalidRequest as for the job."""
    model = asked.model
    places = {"family": ("model", "family"), "framework": ("model", "framework")}
    refuse(supported.objection(TRAIN, model.family, model.framework, places))
    version = dataset_version(service, asked.dataset, ("dataset",)) if asked.dataset else None
    if asked.dataset:
        refuse(dataset_fit.model_objection(model, version))
    return {
        **described(model, version.summary if version else None),
        "dataset": _ref(version) if version else asked.dataset,
        "model": model.model_dump(mode="json"),
    }


def described(model: ModelSpec, data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the summary of a model on a data set with this summary; `error` says why there are no layers."""
    try:
        found = summarize(model, model.expected_facts(data))
        error = None if found else f"the family {model.family} declares no layers; a job lists its weights"
    except Exception as wrong:  # an own family's code, which may fail on facts that it did not expect
        found, error = None, f"layers() of the family {model.family} failed: {type(wrong).__name__}: {wrong}"
    nothing: dict[str, Any] = dict.fromkeys(("layers", "parameters", "fixed", "bytes"))
    named = {"family": model.family, "framework": model.framework, "preset": model.preset}
    return {**named, "rows": "layers", **nothing, "facts": {}, **(found or {}), "error": error}


def _ref(version: DatasetVersion) -> str:
    return f"{version.name}@{version.version}"
