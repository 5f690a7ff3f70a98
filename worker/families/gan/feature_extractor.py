"""The feature extractor of GAN scores: a small CNN classifier of the same data set.

Images are compared in its last hidden layer. It is trained once per data set version and image size, from a fixed seed,
and kept beside the data set, so that all GANs on that version, in either framework, are measured alike. Stored files
and documents call it `judge`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from nightshift.families.learner import Array, LearnerSetup, Splits
from nightshift.families.training import Training
from shared.datasets.store import rename_into_place, staging
from worker import families
from worker.families.cnn.family import CnnModel
from worker.training import gang
from worker.training.numerics.data_order import DataOrder

#: Version of the training recipe; part of the folder's name.
RECIPE = 1
#: Most steps and epochs of training, whichever is less; 600 steps give about 0.99 accuracy on MNIST.
MAX_STEPS, MAX_EPOCHS = 600, 12
BATCH_SIZE = 128
#: Images evaluated at a time.
EVAL_BATCH_SIZE = 500
#: Units of the last hidden layer, and the smallest side (pixels) after a pooling.
FEATURES, SMALLEST = 64, 6

Stop = Callable[[], bool]
Log = Callable[[str], None]


@dataclass(frozen=True)
class FeatureExtractor:
    """A trained classifier whose last hidden layer gives the features."""

    learner: Any
    accuracy: float  # on the test part
    folder: Path | None = None  # where it is stored

    def features(self, pictures: Array) -> Array:
        """Return the features of uint8 images [n, h, w, c]: [n, FEATURES] float32."""
        found: Array = self.learner.features(pictures, EVAL_BATCH_SIZE)
        return found


def load_extractor(
    splits: Splits, framework: str, device: str, stop: Stop = lambda: False, log: Log = lambda message: None
) -> FeatureExtractor | None:
    """Return the stored feature extractor of this data, or train one. None if `stop()` becomes true."""
    model = extractor_model(splits.facts["image"], framework)
    folder = None
    if splits.folder is not None:
        folder = splits.folder / "judge{}-{}x{}x{}".format(RECIPE, *splits.facts["image"])
        if (folder / "judge.json").exists():
            return _load(folder, model, splits, device)
    log("training the feature extractor of this data set, once: a small classifier used to score samples")
    extractor = _train(model, splits, device, stop)
    if extractor is None or folder is None:
        return extractor
    _store(extractor, folder)
    return _load(folder, model, splits, device)


def extractor_model(image: tuple[int, int, int], framework: str) -> CnnModel:
    """Return a model of 3x3 convolutions, each with a pooling, down to SMALLEST pixels."""
    side, filters = min(image[:2]), [32]
    while (side := (side - 2) // 2) >= SMALLEST:
        filters.append(64)
    return CnnModel.model_validate({
        "framework": framework, "image_size": tuple(image[:2]), "image_channels": image[2], "filters": filters,
        "pool": [True] * len(filters), "dense": [FEATURES], "output": "softmax",
        "initialization": "he",
    })  # fmt: skip


def _train(model: CnnModel, splits: Splits, device: str, stop: Stop) -> FeatureExtractor | None:
    n = len(splits.train["y"])
    batch_size = min(BATCH_SIZE, n)
    steps = min(MAX_STEPS, MAX_EPOCHS * -(-n // batch_size))
    learner = _build(model, splits, device, steps)
    learner.set_data(splits.train)
    order = DataOrder(0, n, batch_size)
    for step in range(steps):
        if stop():
            return None
        learner.train_step(order.batch(step), step)
    test = splits.test if splits.test is not None else splits.train
    return FeatureExtractor(learner, learner.evaluate(test, EVAL_BATCH_SIZE)["accuracy"])


def _build(model: CnnModel, splits: Splits, device: str, steps: int) -> Any:
    """Return a learner in float32, so that features do not depend on the processor's number formats."""
    training = Training(learning_rate=0.003, lr_schedule="onecycle", precision="float32")
    setup = LearnerSetup(model, training, steps, device, None, {"classes": splits.facts["classes"]})
    with gang.alone():
        return families.load("cnn", model.framework)(setup)


def _store(extractor: FeatureExtractor, folder: Path) -> None:
    """Store the extractor, unless another job stored one first."""
    with staging(folder.parent) as aside:
        save_file(extractor.learner.weights(), aside / "judge.safetensors")
        (aside / "judge.json").write_text(json.dumps({"accuracy": extractor.accuracy}))
        rename_into_place(aside, folder)


def _load(folder: Path, model: CnnModel, splits: Splits, device: str) -> FeatureExtractor:
    learner = _build(model, splits, device, 1)
    learner.load_weights(load_file(folder / "judge.safetensors"))
    return FeatureExtractor(learner, float(json.loads((folder / "judge.json").read_text())["accuracy"]), folder)
