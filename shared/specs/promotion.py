"""Promotion: when a new version takes over an alias."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nightshift.families.fields import Spec
from nightshift.metrics import Sense
from shared.specs.base import DatasetRef
from shared.specs.models import Alias


class Promotion(Spec):
    """Move `alias` to the new version if it is better than the current one; both are measured on `evaluate_on`."""

    alias: Alias = "champion"
    metric: Annotated[
        str,
        Field(
            min_length=1,
            max_length=100,
            description="Metric of the test part, as in results: one that the family or program is judged by.",
        ),
    ]
    mode: Annotated[Sense | None, Field(description="Which is better; null: the metric's own.")] = None
    min_improvement: Annotated[float, Field(ge=0, le=1e9, description="Smallest improvement that counts.")] = 0.0
    evaluate_on: Annotated[
        DatasetRef,
        Field(
            description="Both are evaluated on its test part. Without a version: the newest when the job is accepted."
        ),
    ]
    confidence: Annotated[
        float | None,
        Field(
            ge=0.5,
            lt=1,
            description="Required confidence in the improvement, by a paired bootstrap over the test part.",
        ),
    ] = None
