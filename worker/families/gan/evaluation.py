"""Evaluation of a GAN: Fréchet distance, precision and recall of samples against the test part."""

from __future__ import annotations

from typing import Protocol

from nightshift.families.learner import Array, Evaluation, Learner, Splits
from nightshift.families.training import Training
from worker.families.gan.family import GanModel
from worker.families.gan.feature_extractor import FEATURES, FeatureExtractor, load_extractor
from worker.families.gan.reference import load_reference
from worker.families.gan.scores import NEIGHBORS, frechet_distance, scores

#: Samples of a grid, from fixed noise.
GRID = 64
#: Samples generated at a time.
BATCH_SIZE = 250


class GanLearner(Learner, Protocol):
    """The learner protocol with sampling."""

    device_kind: str  # cpu | gpu

    def generate(self, count: int, seed: int, batch_size: int, start: int = 0) -> Array:
        """Return samples `start` … `start + count - 1` of `seed`: uint8 [count, h, w, c]."""
        ...


def report(learner: GanLearner, splits: Splits, model: GanModel, training: Training) -> Evaluation:
    """Return metrics and document; `arrays` holds the samples of the grid.

    `reference` in the document holds the scores of real images of the training part in place of samples: the best
    scores possible with that many rows.
    """
    samples = learner.generate(GRID, training.seed, BATCH_SIZE)
    extractor = None if splits.test is None else load_extractor(splits, model.framework, learner.device_kind)
    if splits.test is None or extractor is None:
        return Evaluation({}, arrays={"samples": samples})
    reference = load_reference(splits, extractor)
    rows = len(reference.real.features)
    metrics = scores(reference.real, extractor.features(learner.generate(rows, training.seed, BATCH_SIZE)))
    document = {
        "metrics": metrics,
        "reference": reference.scores,
        "rows": rows,
        "neighbours": NEIGHBORS,
        "judge": {"test_accuracy": extractor.accuracy, "features": FEATURES},
    }
    return Evaluation(metrics, document, {"samples": samples})


def validation_distance(learner: GanLearner, extractor: FeatureExtractor, real: Array, seed: int) -> float:
    """Return the Fréchet distance of as many samples as there are rows in `real` (extracted features)."""
    return frechet_distance(real, extractor.features(learner.generate(len(real), seed, BATCH_SIZE)))
