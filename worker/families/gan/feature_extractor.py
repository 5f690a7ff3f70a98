"""The judge: a small CNN classifier of the same data set, in whose last hidden layer pictures are compared.

It is trained once per data set version and picture size, from a fixed seed, and kept beside the data set, so that all
GANs on that version, of either framework, are measured with the same eyes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from shared.datasets.store import rename_into_place, staging
from shared.specs.cnn import CnnModel
from shared.specs.training import Training
from worker import families
from worker.training.learner import Array, LearnerSetup, Splits
from worker.training.numerics.data_order import DataOrder

#: Part of the folder's name: another recipe is another judge.
RECIPE = 1
#: Steps and passes over the training part, whichever is less; 600 steps bring MNIST to about 0.99.
MOST_STEPS, MOST_EPOCHS = 600, 12
BATCH_SIZE = 128
#: Pictures looked at a time.
LOOK = 500
#: Numbers of the last hidden layer, and the side (pixels) below which nothing more is halved.
FEATURES, SMALLEST = 64, 6

Stop = Callable[[], bool]
Say = Callable[[str], None]


@dataclass(frozen=True)
class FeatureExtractor:
    learner: Any
    accuracy: float  # on the test part

    def features(self, pictures: Array) -> Array:
        """What it sees in uint8 pictures [n, h, w, c]: [n, FEATURES] float32."""
        found: Array = self.learner.features(pictures, LOOK)
        return found


def load_extractor(
    splits: Splits, framework: str, device: str, stop: Stop = lambda: False, say: Say = lambda message: None
) -> FeatureExtractor | None:
    """The kept judge of this data, or a new one. None when told to stop meanwhile."""
    model = extractor_model(splits.facts["image"], framework)
    folder = None
    if splits.folder is not None:
        folder = splits.folder / "judge{}-{}x{}x{}".format(RECIPE, *splits.facts["image"])
        if (folder / "judge.json").exists():
            return _read(folder, model, splits, device)
    say("training the judge of this data set, once: a small classifier that samples are measured by")
    judge = _train(model, splits, device, stop)
    if judge is None or folder is None:
        return judge
    _keep(judge, folder)
    return _read(folder, model, splits, device)


def extractor_model(image: tuple[int, int, int], framework: str) -> CnnModel:
    """Convolutions of 3x3, each with a pool, while the picture is large enough."""
    side, filters = min(image[:2]), [32]
    while (side := (side - 2) // 2) >= SMALLEST:
        filters.append(64)
    return CnnModel.model_validate({
        "framework": framework, "image_size": tuple(image[:2]), "image_channels": image[2], "filters": filters,
        "pool": [True] * len(filters), "dense": [FEATURES], "output": "softmax",
    })  # fmt: skip


def _train(model: CnnModel, splits: Splits, device: str, stop: Stop) -> FeatureExtractor | None:
    n = len(splits.train["y"])
    batch_size = min(BATCH_SIZE, n)
    steps = min(MOST_STEPS, MOST_EPOCHS * -(-n // batch_size))
    learner = _build(model, splits, device, steps)
    learner.set_data(splits.train)
    sampler = DataOrder(0, n, batch_size)
    for step in range(steps):
        if stop():
            return None
        learner.train_step(sampler.batch(step), step)
    test = splits.test if splits.test is not None else splits.train
    return FeatureExtractor(learner, learner.evaluate(test, LOOK)["accuracy"])


def _build(model: CnnModel, splits: Splits, device: str, steps: int) -> Any:
    """In float32: its eyes must not depend on the processor's number formats."""
    training = Training(learning_rate=0.003, lr_schedule="onecycle", precision="float32")
    setup = LearnerSetup(model, training, steps, device, None, {"classes": splits.facts["classes"]})
    return families.load("cnn", model.framework)(setup)


def _keep(judge: FeatureExtractor, folder: Path) -> None:
    """When another job was first, its judge stays, and is the one that both read."""
    with staging(folder.parent) as aside:
        save_file(judge.learner.weights(), aside / "judge.safetensors")
        (aside / "judge.json").write_text(json.dumps({"accuracy": judge.accuracy}))
        rename_into_place(aside, folder)


def _read(folder: Path, model: CnnModel, splits: Splits, device: str) -> FeatureExtractor:
    learner = _build(model, splits, device, 1)
    learner.load_weights(load_file(folder / "judge.safetensors"))
    return FeatureExtractor(learner, float(json.loads((folder / "judge.json").read_text())["accuracy"]))
