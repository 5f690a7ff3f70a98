"""What the loop relies on beside exact state (test_learner_state), for every family and framework; and every preset and
override of the CNN in torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import Array, LearnerSetup, LearnerState, Splits
from nightshift.families.training import Training
from tests.support.training import CASES, Case, build, load_splits, snapshot
from worker import families
from worker.families.cnn.family import PRESETS, CnnModel

STEPS = 6


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    pytest.importorskip(found.framework)
    return found


@pytest.fixture(scope="module")
def splits(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return load_splits(case, case.store(tmp_path_factory.mktemp("datasets")))


@dataclass
class Twins:
    """Two learners of equal seeds, trained for the same steps: building one takes TensorFlow two seconds."""

    one: Any
    other: Any
    new: LearnerState
    #: After the training, of the one and of the other.
    ended: LearnerState
    also: LearnerState

    def back(self, state: LearnerState) -> tuple[Any, Any]:
        for learner in (self.one, self.other):
            learner.load_state(state)
        return self.one, self.other


@pytest.fixture(scope="module")
def twins(case: Case, splits: Splits) -> Twins:
    one = build(case, splits)
    new = snapshot(one)
    train(one, splits)
    other = train(build(case, splits), splits)
    return Twins(one, other, new, snapshot(one), snapshot(other))


@pytest.fixture
def learner(twins: Twins) -> Any:
    """One that has learned for `STEPS`."""
    return twins.back(twins.ended)[0]


def train(learner: Any, splits: Splits, steps: int = STEPS, first: int = 0) -> Any:
    learner.set_data(splits.train)
    for step in range(first, steps):
        learner.train_step(np.arange(4) + 4 * step, step)
    return learner


def same(left: dict[str, Array], right: dict[str, Array]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def test_equal_seeds_give_equal_learners(case: Case, splits: Splits, twins: Twins) -> None:
    assert same(dict(twins.ended.arrays), dict(twins.also.arrays))
    assert not same(build(case, splits).weights(), build(case, splits, seed=1).weights())


def test_weights_are_canonical_and_go_round(case: Case, splits: Splits, learner: Any) -> None:
    weights = learner.weights()
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in weights.values())
    other = build(case, splits)  # its own weights are those before the first step
    other.load_weights(weights)
    assert same(other.weights(), weights)
    assert judged(other, splits) == judged(learner, splits)


def test_evaluating_touches_nothing(splits: Splits, learner: Any) -> None:
    before = snapshot(learner).arrays
    found = judged(learner, splits)
    assert all(value > 0 for name, value in found.items() if name.endswith("loss"))
    assert 0 <= found.get("accuracy", 0) <= 1
    assert same(dict(learner.state().arrays), dict(before))


def test_metrics_are_means_since_they_were_last_read(splits: Splits, twins: Twins) -> None:
    whole, one = twins.back(twins.new)
    whole.read_metrics()
    one.read_metrics()
    found = train(whole, splits, 2).read_metrics()
    assert found["learning_rate"] > 0
    each = list[dict[str, float]]()
    for step in range(2):
        train(one, splits, step + 1, step)
        each.append(one.read_metrics())
    for name in losses(found):
        assert found[name] == pytest.approx(np.mean([read[name] for read in each]), rel=1e-5)


def losses(values: dict[str, float]) -> list[str]:
    found = [name for name in values if name.endswith("loss")]
    assert found, "a learner reports at least one loss"
    return found


def judged(learner: Any, splits: Splits) -> dict[str, float]:
    found: dict[str, float] = learner.evaluate({name: rows[:90] for name, rows in (splits.test or {}).items()}, 50)
    assert losses(found)
    return found


# -- the CNN in torch: every preset and override --------------------------------------------------


def small_run(model: dict[str, Any], classes: int = 3, **training: Any) -> Any:
    """Three steps on random pictures; the probabilities of five of them."""
    pytest.importorskip("torch")
    spec = CnnModel.model_validate(model)
    draw = np.random.default_rng(0)
    rows = {
        "x": draw.integers(0, 256, (8, *spec.image_size, spec.image_channels), np.uint8),
        "y": draw.integers(0, classes, 8),
    }
    how = Training.model_validate({"batch_size": 4, **training})
    facts = {"classes": [str(i) for i in range(classes)]}
    learner: Any = families.load("cnn", "torch")(LearnerSetup(spec, how, 3, "cpu", 1, facts))
    before = learner.weights()
    learner.set_data(rows)
    for step in range(3):
        learner.train_step(np.arange(4) + step, step)
    assert np.isfinite(learner.read_metrics()["loss"])
    changed = [name for name, array in learner.weights().items() if not np.array_equal(array, before[name])]
    assert "conv0.weight" in changed
    assert "output.bias" in changed
    probabilities = learner.predict(rows["x"][:5], 2)
    assert probabilities.shape == (5, classes)
    assert probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert learner.predict(rows["x"][:0], 2).shape == (0, classes)
    return learner


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains(preset: str) -> None:
    size = {"image_size": (64, 64)} if preset == "cats-vs-dogs" else {}
    small_run({"preset": preset, **size}, classes=2 if preset == "cats-vs-dogs" else 10)


def test_cats_vs_dogs_trains_in_its_own_size() -> None:
    learner = small_run({"preset": "cats-vs-dogs"}, classes=2)
    assert learner.weights()["output.weight"].shape == (1, 128)


BASE = {"image_size": (14, 11), "filters": [4, 6], "pool": [True, False], "dense": [8]}


@pytest.mark.parametrize(
    "override",
    [
        {"filters": [3, 4, 5], "pool": [False, True, False]},
        {"kernel_size": 1}, {"kernel_size": 2}, {"pool": [False, False]}, {"dense": []}, {"dense": [9, 7, 5]},
        {"dropout": 0.5}, {"normalization": "batch"}, {"normalization": "layer"}, {"image_channels": 3},
        {"image_size": (9, 20)}, {"output": "sigmoid"},
    ],
    ids=str,
)  # fmt: skip
def test_every_override_builds_and_trains(override: dict[str, Any]) -> None:
    small_run({**BASE, **override}, classes=2 if override.get("output") else 3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adadelta"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_optimizer_trains_in_every_precision(optimizer: str, precision: str) -> None:
    small_run(BASE, optimizer=optimizer, precision=precision, weight_decay=0.01, grad_clip=1.0)


@pytest.mark.parametrize("augment", [["shift"], ["rotate"], ["flip"], ["erase"], ["shift", "rotate", "flip", "erase"]])
def test_every_augmentation_trains(augment: list[str]) -> None:
    small_run(BASE, augment=augment)


def test_frozen_weights_stay(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    spec = CnnModel.model_validate({**BASE, "normalization": "batch"})
    facts = {"classes": ["a", "b"], "frozen": ["conv", "norm"]}
    learner: Any = families.load("cnn", "torch")(LearnerSetup(spec, Training(), 3, "cpu", 1, facts))
    before = learner.weights()
    learner.set_data({"x": np.full((4, 14, 11, 1), 9, np.uint8), "y": np.array([0, 1, 0, 1])})
    learner.train_step(np.arange(4), 0)
    changed = {name for name, array in learner.weights().items() if not np.array_equal(array, before[name])}
    assert changed
    assert all(name.startswith(("dense", "output")) for name in changed)
