"""What a GAN does after each epoch: draws the same samples again, and measures how far they are from held-out pictures.

The best model is that of the epoch with the lowest Fréchet distance to the validation part (`val_frechet_distance`):
neither player's loss says how good the pictures are. Without a validation part the last model is the result.
"""

from __future__ import annotations

from pathlib import Path

from shared.specs.gan import GanModel
from shared.specs.training import Training
from worker.families.gan.evaluation import BATCH_SIZE, GRID, GanLearner, spread, validation_distance
from worker.families.gan.feature_extractor import FeatureExtractor, Say, Stop, load_extractor
from worker.families.gan.plots import collect_epochs as collect
from worker.families.gan.plots import draw_epoch
from worker.training.learner import Array, Splits
from worker.training.trainer import AtEpoch

#: Pictures, real and generated, compared after each epoch, at most.
COMPARED = 2000


def start(
    learner: GanLearner, splits: Splits, model: GanModel, training: Training, job_dir: Path, stop: Stop, say: Say
) -> AtEpoch:
    """The judge is called before the first step, where a stop is heard; if one came, again after the epoch."""
    epochs = _Epochs(learner, splits, model, training, job_dir)
    epochs.prepare(stop, say)
    return epochs


__all__ = ["collect", "start"]


class _Epochs:
    def __init__(self, learner: GanLearner, splits: Splits, model: GanModel, training: Training, job_dir: Path) -> None:
        self.learner, self.splits, self.model = learner, splits, model
        self.training, self.job_dir = training, job_dir
        self.judge: FeatureExtractor | None = None
        self.real: Array | None = None

    def prepare(self, stop: Stop = lambda: False, say: Say = lambda message: None) -> None:
        if self.splits.validation is None:
            return
        self.judge = load_extractor(self.splits, self.model.framework, self.learner.device_kind, stop, say)
        if self.judge is not None:
            self.real = self.judge.features(spread(self.splits.validation["x"], COMPARED))

    def __call__(self, epoch: int) -> dict[str, float]:
        seed = self.training.seed
        draw_epoch(self.learner.generate(GRID, seed, BATCH_SIZE), self.job_dir, epoch)
        if self.judge is None:
            self.prepare()
        if self.judge is None or self.real is None:
            return {}
        return {"val_frechet_distance": validation_distance(self.learner, self.judge, self.real, seed)}
