"""Gated promotion: when a newly trained version may take an alias over."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nightshift.metrics import Sense
from shared.specs.base import DatasetRef, Spec
from shared.specs.models import Alias

JudgedBy = Literal[
    "test_accuracy", "test_loss", "f1_macro", "precision_macro", "recall_macro", "auc_macro_ovr", "test_perplexity",
    "frechet_distance", "precision", "recall",
]  # fmt: skip


class Promotion(Spec):
    """The new version takes `alias` over if it beats the one that holds it then, both measured on `evaluate_on`."""

    alias: Alias = "champion"
    metric: Annotated[JudgedBy, Field(description="As results name it.")]
    mode: Annotated[Sense | None, Field(description="Which is better; null: as the metric has it.")] = None
    min_improvement: Annotated[float, Field(ge=0, le=1e9, description="The least it must be better by.")] = 0.0
    evaluate_on: Annotated[
        DatasetRef,
        Field(
            description="Its test part judges both. Without a version: the newest when the job is accepted, for good."
        ),
    ]
    confidence: Annotated[
        float | None,
        Field(ge=0.5, lt=1, description="Be so sure of the improvement, by a paired bootstrap over the test part."),
    ] = None
