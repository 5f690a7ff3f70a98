"""What a finished GAN is worth, by the judge: Fréchet distance, precision and recall against the test part."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from shared.specs.gan import GanModel
from shared.specs.training import Training
from worker.families.gan.feature_extractor import FEATURES, FeatureExtractor, load_extractor
from worker.families.gan.scores import NEIGHBOURS, frechet_distance, precision_recall
from worker.training.learner import Array, Evaluation, Learner, Splits

#: Pictures, real and generated, the final scores compare, at most.
SCORED = 5000
#: Samples of a grid, from a z that does not change.
GRID = 64
#: Samples made at a time.
BATCH_SIZE = 250


class GanLearner(Learner, Protocol):
    """What a GAN's learner offers beside the protocol."""

    device_kind: str  # cpu | gpu

    def generate(self, count: int, seed: int, batch_size: int, start: int = 0) -> Array:
        """Samples `start` … `start + count - 1` of `seed`: uint8 [count, h, w, c]."""
        ...


def report(learner: GanLearner, splits: Splits, model: GanModel, training: Training) -> Evaluation:
    """Metrics and document; `arrays` has the samples of the grid. `reference` in the document is what real pictures
    of the training part reach in the generator's place: the best scores there are with so many rows."""
    samples = learner.generate(GRID, training.seed, BATCH_SIZE)
    judge = None if splits.test is None else load_extractor(splits, model.framework, learner.device_kind)
    if splits.test is None or judge is None:
        return Evaluation({}, arrays={"samples": samples})
    real = judge.features(spread(splits.test["x"], SCORED))
    made = judge.features(learner.generate(len(real), training.seed, BATCH_SIZE))
    trained_on = judge.features(spread(splits.train["x"], len(real)))
    metrics = _scores(real, made)
    document = {
        "metrics": metrics,
        "reference": _scores(real, trained_on),
        "rows": len(real),
        "neighbours": NEIGHBOURS,
        "judge": {"test_accuracy": judge.accuracy, "features": FEATURES},
    }
    return Evaluation(metrics, document, {"samples": samples})


def _scores(real: Array, others: Array) -> dict[str, float]:
    precision, recall = precision_recall(real, others)
    return {"frechet_distance": frechet_distance(real, others), "precision": precision, "recall": recall}


def validation_distance(learner: GanLearner, judge: FeatureExtractor, real: Array, seed: int) -> float:
    """Fréchet distance of as many samples as there are rows in `real` (the judge's features of real pictures)."""
    return frechet_distance(real, judge.features(learner.generate(len(real), seed, BATCH_SIZE)))


def spread(pictures: Any, most: int) -> Array:
    """At most so many rows, evenly over the whole (a set may be sorted by class)."""
    n = len(pictures)
    rows = np.linspace(0, n - 1, min(most, n)).round().astype(np.int64)
    if isinstance(pictures, np.ndarray):
        return np.asarray(pictures[rows])
    return np.concatenate([pictures[row : row + 1] for row in map(int, rows)])  # a view that is read in slices only
