"""Work after each epoch of a GAN: draw the same samples and measure their distance to real images.

The best model is that of the epoch with the lowest Fréchet distance to the validation part (`val_frechet_distance`):
neither player's loss tells how good the images are. Without a validation part the last model is the result.
"""

from __future__ import annotations

from pathlib import Path

from nightshift.families.learner import Array, Splits
from nightshift.families.training import Training
from worker.families.gan.evaluation import BATCH_SIZE, GRID, GanLearner, validation_distance
from worker.families.gan.family import GanModel
from worker.families.gan.feature_extractor import FeatureExtractor, Log, Stop, load_extractor
from worker.families.gan.plots import collect_epochs as collect
from worker.families.gan.plots import draw_epoch
from worker.families.gan.reference import spread
from worker.training.trainer import AtEpoch

#: Most images, real and generated each, compared after each epoch.
MAX_COMPARED = 2000


def start(
    learner: GanLearner, splits: Splits, model: GanModel, training: Training, job_dir: Path, stop: Stop, log: Log
) -> AtEpoch:
    """Return the work to do after each epoch.

    The feature extractor is loaded or trained before the first step, where a stop is obeyed; if a stop came, it is
    loaded again after the epoch.
    """
    epochs = _Epochs(learner, splits, model, training, job_dir)
    epochs.prepare(stop, log)
    return epochs


__all__ = ["collect", "start"]


class _Epochs:
    def __init__(self, learner: GanLearner, splits: Splits, model: GanModel, training: Training, job_dir: Path) -> None:
        self.learner, self.splits, self.model = learner, splits, model
        self.training, self.job_dir = training, job_dir
        self.extractor: FeatureExtractor | None = None
        self.real: Array | None = None

    def prepare(self, stop: Stop = lambda: False, log: Log = lambda message: None) -> None:
        if self.splits.validation is None:
            return
        self.extractor = load_extractor(self.splits, self.model.framework, self.learner.device_kind, stop, log)
        if self.extractor is not None:
            self.real = self.extractor.features(spread(self.splits.validation["x"], MAX_COMPARED))

    def __call__(self, epoch: int) -> dict[str, float]:
        seed = self.training.seed
        draw_epoch(self.learner.generate(GRID, seed, BATCH_SIZE), self.job_dir, epoch)
        if self.extractor is None:
            self.prepare()
        if self.extractor is None or self.real is None:
            return {}
        return {"val_frechet_distance": validation_distance(self.learner, self.extractor, self.real, seed)}
