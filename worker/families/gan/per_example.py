"""Scores of a GAN as a whole: samples cannot be compared row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nightshift.families.learner import Array, Splits
from nightshift.families.training import Training
from shared.errors import BadData
from worker.families.gan.evaluation import GanLearner, report
from worker.families.gan.family import GanModel


def examples(learner: GanLearner, splits: Splits, model: GanModel) -> SampleScores:
    """Return scores by the feature extractor of the evaluation set, with the same noise for every model."""
    image: tuple[int, int, int] = (*model.image_size, model.image_channels)
    return SampleScores(report(learner, splits, model, Training()).metrics, image)


@dataclass(frozen=True)
class SampleScores:
    """Metrics of a GAN's samples, without rows."""

    metrics: Mapping[str, float]
    image: tuple[int, int, int]
    rows: int = 0

    def incomparable(self, other: SampleScores) -> str | None:
        return (
            "their image sizes differ, and each size has its own feature extractor"
            if self.image != other.image
            else None
        )

    def score(self, metric: str) -> float:
        return self.metrics[metric]

    def resampled(self, metric: str, counts: Array) -> Array:
        raise BadData("a GAN has no scores per example to resample")
