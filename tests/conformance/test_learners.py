"""What the loop relies on beside exact state (test_learner_state), for every family and framework; and every preset and
override of the CNN in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import LearnerSetup, Splits
from nightshift.families.training import Training
from nightshift.testing.cases import Case
from nightshift.testing.fixtures import held_out
from nightshift.testing.test_learner import judged
from nightshift.testing.test_learner import (
    test_a_scaled_rate_is_the_rate_of_the_next_steps as test_a_scaled_rate_is_the_rate_of_the_next_steps,
)
from nightshift.testing.test_learner import (
    test_another_seed_gives_another_learner as test_another_seed_gives_another_learner,
)
from nightshift.testing.test_learner import test_equal_seeds_give_equal_learners as test_equal_seeds_give_equal_learners
from nightshift.testing.test_learner import test_evaluating_touches_nothing as test_evaluating_touches_nothing
from nightshift.testing.test_learner import (
    test_metrics_are_means_since_they_were_last_read as test_metrics_are_means_since_they_were_last_read,
)
from nightshift.testing.test_learner import (
    test_weights_are_canonical_and_go_round as test_weights_are_canonical_and_go_round,
)
from nightshift.testing.test_summary import (
    test_a_run_knows_the_facts_that_its_layers_need as test_a_run_knows_the_facts_that_its_layers_need,
)
from nightshift.testing.test_summary import (
    test_its_layers_hold_the_numbers_of_its_weights as test_its_layers_hold_the_numbers_of_its_weights,
)
from tests.support.training import CASES
from worker import families
from worker.families.cnn.family import PRESETS, CnnModel


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    pytest.importorskip(found.framework)
    return found


def test_held_out_metrics_are_in_their_range(splits: Splits, learner: Any) -> None:
    found = judged(learner, splits)
    assert all(value > 0 for name, value in found.items() if name.endswith("loss"))
    assert 0 <= found.get("accuracy", 0) <= 1


def test_predictions_that_are_fetched_one_batch_late_are_the_same(
    splits: Splits, learner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of a GPU, every bit is as in that of a CPU: for full batches, a smaller last one, a single one."""
    rows = next(iter(held_out(splits).values()))

    def predicted() -> list[Any]:
        found = [learner.predict(rows[:n], 16) for n in (32, 37, 5)]
        return [*found, learner.generate(37, 3, 16, 5)] if hasattr(learner, "generate") else found

    at_once = predicted()
    monkeypatch.setattr(learner, "device_kind", "gpu")
    for one, other in zip(at_once, predicted(), strict=True):
        np.testing.assert_array_equal(one, other)


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
        {"padding": "same", "image_size": (4, 4)},
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
