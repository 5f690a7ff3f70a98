"""Request body of a model's summary."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from nightshift.families.fields import Spec
from shared.specs.base import DatasetRef
from shared.specs.families import Model


class SummaryOf(Spec):
    """Ask for the layers of a model that is not trained yet."""

    model: Annotated[Model, Field(description="As in a job: a family, perhaps a preset, and fields that override it.")]
    dataset: Annotated[
        DatasetRef | None, Field(description="What it would learn from; null: a typical data set is supposed.")
    ] = None


#: Shown beside the route; a test asks for each.
EXAMPLES: dict[str, dict[str, Any]] = {
    "preset": {"summary": "A preset", "value": {"model": {"family": "cnn", "preset": "mnist-3conv"}}},
    "overrides": {
        "summary": "Own layers, for a data set",
        "value": {
            "model": {"family": "cnn", "preset": "mnist-2conv", "filters": [8, 16], "dense": [32]},
            "dataset": "digits",
        },
    },
    "language model": {
        "summary": "A smaller language model",
        "value": {"model": {"family": "gru_lm", "embedding": 128, "units": [256], "vocabulary_size": 5000}},
    },
}
