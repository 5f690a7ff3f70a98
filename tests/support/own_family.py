"""A package with a family of its own, as pip leaves it in a folder: a linear classifier of images in numpy."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.specs.families import FAMILIES, SETTING
from tests.support.plugins import installed, write_modules

DECLARATION = """
from typing import Literal

from nightshift.families import CLASSIFIER_METRICS, IMAGE_CLASSIFIER, Family, Framework, ImageSize, ModelSpec


class LinearModel(ModelSpec):
    family: Literal["linear"] = "linear"
    framework: Framework = "torch"
    preset: str = "small"
    image_size: ImageSize
    image_channels: Literal[1, 3]


LinearModel.PRESETS = {"small": {"image_size": (28, 28), "image_channels": 1}}

FAMILY = Family(
    name="linear",
    description="Linear classifiers.",
    model=LinearModel,
    default_preset="small",
    training_defaults={"small": {"epochs": 2, "learning_rate": 0.1}},
    learners={"torch": "linear_learner:build"},
    parts=IMAGE_CLASSIFIER,
    dataset_kind="image",
    watchable=frozenset({"loss", "val_loss", "val_accuracy"}),
    judged_by=CLASSIFIER_METRICS,
    tasks=("predict",),
    classifies=True,
    features=("features.",){more}
)
"""

LEARNER = """
import numpy as np

from nightshift.families import LearnerState


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


class Linear:
    def __init__(self, setup):
        self.rate = setup.training.learning_rate
        height, width = setup.model.image_size
        pixels, classes = height * width * setup.model.image_channels, len(setup.facts["classes"])
        draw = np.random.default_rng(setup.training.seed)
        self.tensors = {
            "output.weight": draw.normal(0, 0.01, (classes, pixels)).astype(np.float32),
            "output.bias": np.zeros(classes, np.float32),
        }
        self.sums = np.zeros(2)

    def set_data(self, split):
        self.data = split

    def _probabilities(self, x):
        flat = np.asarray(x).reshape(len(x), -1).astype(np.float32) / 255
        return flat, softmax(flat @ self.tensors["output.weight"].T + self.tensors["output.bias"])

    def train_step(self, rows, step):
        y = np.asarray(self.data["y"])[rows]
        flat, found = self._probabilities(np.asarray(self.data["x"])[rows])
        loss = -np.log(found[np.arange(len(y)), y] + 1e-9).sum()
        self.sums += [loss, len(y)]
        if not np.isfinite(loss):
            return
        found[np.arange(len(y)), y] -= 1
        self.tensors["output.weight"] -= self.rate * found.T @ flat / len(y)
        self.tensors["output.bias"] -= self.rate * found.mean(axis=0)

    def read_metrics(self):
        loss, n = self.sums
        self.sums = np.zeros(2)
        return {"loss": loss / n, "learning_rate": self.rate} if n else {}

    def evaluate(self, split, batch_size):
        y = np.asarray(split["y"])
        found = self.predict(split["x"][:], batch_size)
        loss = -np.log(found[np.arange(len(y)), y] + 1e-9).mean()
        return {"loss": float(loss), "accuracy": float((found.argmax(axis=1) == y).mean())}

    def predict(self, inputs, batch_size):
        return self._probabilities(inputs)[1].astype(np.float32)

    def state(self):
        arrays = {f"weights/{name}": array.copy() for name, array in self.tensors.items()}
        return LearnerState(arrays | {"sums": self.sums.copy()}, {})

    def load_state(self, state):
        self.tensors = {name: np.array(state.arrays[f"weights/{name}"]) for name in self.tensors}
        self.sums = np.array(state.arrays["sums"])

    def weights(self):
        return {name: array.copy() for name, array in self.tensors.items()}

    def load_weights(self, weights):
        self.tensors = {name: np.array(weights[name], np.float32) for name in self.tensors}


build = Linear
"""


def write_family(
    folder: Path,
    *,
    name: str = "nightshift-linear",
    version: str = "1.0",
    entry: str = "linear = linear_family:FAMILY",
    declaration: str = DECLARATION,
    more: str = "",
    learner: str = LEARNER,
) -> Path:
    """Write the package into a folder that can be put on `sys.path`; `more` goes into the arguments of its Family."""
    files = {
        "linear_family.py": declaration.replace("{more}", f", {more}" if more else ""),
        "linear_learner.py": learner,
    }
    return write_modules(folder, files, name=name, version=version, points=f"[nightshift.families]\n{entry}\n")


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch, families: str = "built-in,linear") -> None:
    """Let this process find the package and offer these families, until `forget` is called."""
    installed(folder, monkeypatch)
    monkeypatch.setenv(SETTING, families)
    FAMILIES.forget()
