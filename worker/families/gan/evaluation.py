"""Evaluation of a GAN: Fréchet distance, precision and recall of samples against the test part."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from nightshift.families.learner import Array, Evaluation, Learner, Splits
from nightshift.families.training import Training
from worker.families.gan.family import GanModel
from worker.families.gan.feature_extractor import FEATURES, FeatureExtractor, load_extractor
from worker.families.gan.scores import NEIGHBORS, Manifold, frechet_distance, precision_recall

#: Most images, real and generated each, that the final scores compare.
MAX_SCORED = 5000
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
    real = Manifold(extractor.features(spread(splits.test["x"], MAX_SCORED)))
    rows = len(real.features)
    made = extractor.features(learner.generate(rows, training.seed, BATCH_SIZE))
    trained_on = extractor.features(spread(splits.train["x"], rows))
    metrics = _scores(real, made)
    document = {
        "metrics": metrics,
        "reference": _scores(real, trained_on),
        "rows": rows,
        "neighbours": NEIGHBORS,
        "judge": {"test_accuracy": extractor.accuracy, "features": FEATURES},
    }
    return Evaluation(metrics, document, {"samples": samples})


def _scores(real: Manifold, compared: Array) -> dict[str, float]:
    precision, recall = precision_recall(real, Manifold(compared))
    distance = frechet_distance(real.features, compared)
    return {"frechet_distance": distance, "precision": precision, "recall": recall}


def validation_distance(learner: GanLearner, extractor: FeatureExtractor, real: Array, seed: int) -> float:
    """Return the Fréchet distance of as many samples as there are rows in `real` (extracted features)."""
    return frechet_distance(real, extractor.features(learner.generate(len(real), seed, BATCH_SIZE)))


def spread(pictures: Any, most: int) -> Array:
    """Return at most `most` rows, evenly spaced (a set may be sorted by class)."""
    n = len(pictures)
    rows = np.linspace(0, n - 1, min(most, n)).round().astype(np.int64)
    if isinstance(pictures, np.ndarray):
        return np.asarray(pictures[rows])
    return np.concatenate([pictures[row : row + 1] for row in map(int, rows)])  # a view that is read in slices only
