"""Small families as installed packages, and the conformance kit run on what is installed in a folder."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import warm
from tests.support.paths import ROOT
from tests.support.plugins import write_modules

DECLARATION = """
from typing import Literal

from nightshift.families import IMAGE_CLASSIFIER, Family, Framework, ImageSize, ModelSpec, Trial


class PebbleModel(ModelSpec):
    family: Literal["pebble"] = "pebble"
    framework: Framework = "{framework}"
    preset: str = "flat"
    image_size: ImageSize
    image_channels: Literal[1, 3]


PebbleModel.PRESETS = {"flat": {"image_size": (8, 8), "image_channels": 1}}
FAMILY = Family(
    name="pebble",
    model=PebbleModel,
    default_preset="flat",
    learners={"{framework}": "pebble_learner:build"},
    parts=IMAGE_CLASSIFIER,
    dataset_kind="image",
    classifies=True,
    tasks=("predict",),
    trial=Trial(training={"epochs": 1, "max_steps": 45, "batch_size": 32, "learning_rate": 0.05}),
)
"""

#: A linear classifier with momentum and dropped pixels. What a framework does is in `_forward` and `_gradients`.
_LEARNER = """
import numpy as np

from nightshift.families import LearnerState


def build(setup):
    return Pebble(setup)


class Pebble:
    def __init__(self, setup):
        self.model, self.training = setup.model, setup.training
        pixels, classes = int(np.prod(self.model.image_size)) * self.model.image_channels, len(setup.facts["classes"])
        draw = np.random.default_rng(self.training.seed)
        self.w = {
            "output.weight": (0.01 * draw.standard_normal((classes, pixels))).astype(np.float32),
            "output.bias": np.zeros(classes, np.float32),
        }
        self.v = {name: np.zeros_like(array) for name, array in self.w.items()}
        self.totals = np.zeros(3)

    def set_data(self, split):
        self.data = split

    def _inputs(self, x):
        return np.asarray(x, np.float32).reshape(len(x), -1) / 255

    def train_step(self, rows, step):
        x, y = self._inputs(self.data["x"][rows]), np.asarray(self.data["y"][rows])
        noise = np.random.Generator(np.random.Philox(key=self.training.seed, counter=step))
        x = x * (noise.random(x.shape, np.float32) > 0.1)
        loss, hits, gradients = gradients_of(self.w, x, y)
        self.totals += np.array([loss, hits, 1]) * len(rows)
        if not np.isfinite(loss):
            return
        for name, gradient in gradients.items():
            self.v[name] = np.float32(0.9) * self.v[name] + gradient
            self.w[name] = self.w[name] - np.float32(self.training.learning_rate) * self.v[name]

    def read_metrics(self):
        (loss, hits, rows), self.totals = self.totals, np.zeros(3)
        means = {"loss": loss / max(rows, 1), "accuracy": hits / max(rows, 1)}
        return {**{name: float(value) for name, value in means.items()}, "learning_rate": self.training.learning_rate}

    def evaluate(self, split, batch_size):
        y = np.asarray(split["y"][:])
        p = self.predict(split["x"][:], batch_size)
        picked = np.maximum(p[np.arange(len(y)), y], 1e-9)
        return {"loss": float(-np.log(picked).mean()), "accuracy": float((p.argmax(1) == y).mean())}

    def predict(self, inputs, batch_size):
        starts = range(0, len(inputs), batch_size)
        chunks = [probabilities(self.w, self._inputs(inputs[i : i + batch_size])) for i in starts]
        return np.concatenate(chunks) if chunks else np.zeros((0, len(self.w["output.bias"])), np.float32)

    def state(self):
        arrays = {f"w/{name}": array.copy() for name, array in self.w.items()}
        arrays |= {f"v/{name}": array.copy() for name, array in self.v.items()}
        return LearnerState({**arrays, "totals": self.totals.copy()}, {})

    def load_state(self, state):
        self.w = {name: np.array(state.arrays[f"w/{name}"]) for name in self.w}
        self.v = {name: np.array(state.arrays[f"v/{name}"]) for name in self.v}
        self.totals = np.array(state.arrays["totals"])

    def weights(self):
        return {name: array.copy() for name, array in self.w.items()}

    def load_weights(self, weights):
        self.w = {name: np.array(weights[name], np.float32) for name in self.w}
"""

TORCH = (
    _LEARNER
    + """

import torch


def gradients_of(w, x, y):
    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in w.items()}
    out = torch.from_numpy(x) @ tensors["output.weight"].T + tensors["output.bias"]
    labels = torch.from_numpy(y.astype(np.int64))
    loss = torch.nn.functional.cross_entropy(out, labels)
    loss.backward()
    hits = (out.argmax(1) == labels).float().mean().item()
    return loss.item(), hits, {name: tensor.grad.numpy().copy() for name, tensor in tensors.items()}


def probabilities(w, x):
    with torch.no_grad():
        out = torch.from_numpy(x) @ torch.from_numpy(w["output.weight"]).T + torch.from_numpy(w["output.bias"])
        return torch.softmax(out, 1).numpy()
"""
)

TENSORFLOW = (
    _LEARNER
    + """

import tensorflow as tf


def gradients_of(w, x, y):
    variables = {name: tf.constant(array) for name, array in w.items()}
    with tf.GradientTape() as tape:
        tape.watch(list(variables.values()))
        out = tf.matmul(x, variables["output.weight"], transpose_b=True) + variables["output.bias"]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, out))
    found = tape.gradient(loss, variables)
    hits = float(np.mean(out.numpy().argmax(1) == y))
    return float(loss), hits, {name: gradient.numpy() for name, gradient in found.items()}


def probabilities(w, x):
    return tf.nn.softmax(tf.matmul(x, w["output.weight"], transpose_b=True) + w["output.bias"]).numpy()
"""
)


def write_family(folder: Path, learner: str = TORCH, framework: str = "torch", declaration: str = DECLARATION) -> Path:
    """Write the package of a family `pebble`."""
    modules = {
        "pebble_family.py": declaration.replace("{framework}", framework),
        "pebble_learner.py": learner,
    }
    points = "[nightshift.families]\npebble = pebble_family:FAMILY\n"
    return write_modules(folder, modules, name="nightshift-pebble", points=points)


def changed(text: str, *changes: tuple[str, str]) -> str:
    """Return a module with parts that are others."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class Checked:
    """What the kit said: the reason of each check that did not pass, and the names of those that did."""

    failed: dict[str, str]
    passed: set[str]
    output: str


def check(folder: Path, *options: str, only: str = "") -> Checked:
    """Run the kit on what is installed in a folder, in a process that has the frameworks already."""
    report = folder / "report.json"
    arguments = [*options, f"--conformance-report={report}", *(["-k", only] if only else [])]
    process = warm.Process("training", target=_check, args=(folder, arguments))
    process.start()
    process.join()
    output = (folder / "kit.log").read_text()
    assert report.exists(), output
    found: list[dict[str, Any]] = json.loads(report.read_text())["checks"]
    bad = {one["check"].partition("[")[0]: one["reason"] for one in found if one["outcome"] in ("failed", "error")}
    return Checked(bad, {one["check"].partition("[")[0] for one in found if one["outcome"] == "passed"}, output)


def _check(folder: Path, arguments: list[str]) -> None:
    log = os.open(folder / "kit.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for standard in (1, 2):
        os.dup2(log, standard)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    os.chdir(folder)
    (folder / "pytest.ini").write_text("[pytest]\n")
    more = ["-q", "-p", "no:cacheprovider", "-c", "pytest.ini", f"--rootdir={folder}", f"--basetemp={folder}/temp"]
    pytest.main(["--pyargs", "nightshift.testing", *arguments, *more])
