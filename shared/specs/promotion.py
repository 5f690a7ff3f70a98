"""Gated promotion: the condition under which an alias moves to a newly trained version."""

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
    """Move `alias` to the new version if it is better than the current one; both are measured on `evaluate_on`."""

    alias: Alias = "champion"
    metric: Annotated[JudgedBy, Field(description="A metric of the results.")]
    mode: Annotated[Sense | None, Field(description="Whether larger or smaller is better; null: the metric's.")] = None
    min_improvement: Annotated[float, Field(ge=0, le=1e9, description="Smallest required improvement.")] = 0.0
    evaluate_on: Annotated[
        DatasetRef,
        Field(description="Data set whose test part measures both. Without a version: the newest at submission."),
    ]
    confidence: Annotated[
        float | None,
        Field(ge=0.5, lt=1, description="Required confidence, from a paired bootstrap over the test part."),
    ] = None
