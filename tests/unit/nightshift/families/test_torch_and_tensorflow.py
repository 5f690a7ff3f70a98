"""The ready-made learners: exact, untouched by evaluation and by bad losses, in both frameworks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nightshift.families.training import Optimizer
from tests.unit.nightshift.families.small import BATCH, CLASSES, ROWS, build, contents, pictures, snapshot, train

FRAMEWORKS = ("torch", "tensorflow")
OPTIMIZERS = Optimizer.__args__  # type: ignore[attr-defined]


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_seed_alone_decides_the_weights(framework: str) -> None:
    one, other, seeded = build(framework), build(framework), build(framework, seed=2)
    assert snapshot(one) == snapshot(other)
    assert not np.array_equal(one.weights()["output.weight"], seeded.weights()["output.weight"])
    assert snapshot(train(one)) == snapshot(train(other))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_equals_an_untouched_one(framework: str, optimizer: str) -> None:
    untouched = train(build(framework, optimizer=optimizer), last=4)
    saved = untouched.state()
    before = contents(saved)
    train(untouched, 4)
    assert contents(saved) == before, "later steps must not change a state"
    resumed = build(framework, optimizer=optimizer)
    resumed.evaluate(pictures(), BATCH)  # draws no number that training notices
    resumed.load_state(saved)
    assert snapshot(resumed) == before
    train(resumed, 4)
    assert snapshot(resumed) == snapshot(untouched)
    assert resumed.read_metrics() == untouched.read_metrics()


def test_a_learner_that_was_used_can_load_an_older_state(framework: str) -> None:
    learner = train(build(framework), last=4)
    saved, found = learner.state(), learner.evaluate(pictures(), BATCH)
    once = snapshot(train(learner, 4))
    assert learner.evaluate(pictures(), BATCH) != found
    learner.load_state(saved)
    assert learner.evaluate(pictures(), BATCH) == found
    assert snapshot(train(learner, 4)) == once


@pytest.mark.parametrize("kind", ["weights/norm.running_mean", "optimizer/", "totals"])
def test_no_part_of_the_state_may_be_missing(framework: str, kind: str) -> None:
    learner = build(framework)
    fresh, saved = learner.state(), train(learner, last=4).state()
    untouched = snapshot(train(learner, 4))
    names = [name for name in saved.arrays if name.startswith(kind)]
    assert names
    for name in names:
        arrays = {**saved.arrays, name: fresh.arrays.get(name, np.zeros_like(saved.arrays[name]))}
        learner.load_state(replace(saved, arrays=arrays))
        assert snapshot(train(learner, 4)) != untouched, name
    learner.load_state(saved)
    assert snapshot(train(learner, 4)) == untouched


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_loss_that_is_no_number_changes_nothing(framework: str, optimizer: str) -> None:
    learner = train(build(framework, optimizer=optimizer), last=3)
    learner.read_metrics()
    weights = {**learner.weights(), "output.bias": np.full(CLASSES, np.nan, np.float32)}
    good = learner.weights()
    learner.load_weights(weights)
    before = contents(learner.state())
    train(learner, 3, 5)
    after = contents(learner.state())
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"totals", "bad", "rate"}, changed
    assert after.keys() == before.keys()
    assert not np.isfinite(learner.read_metrics()["loss"])
    learner.load_weights(good)
    train(learner, 5, 6)
    assert all(np.array_equal(array, good[name]) for name, array in learner.weights().items()), "it stays stopped"


def test_frozen_weights_statistics_and_dropout_stay(framework: str) -> None:
    learner = build(framework, frozen=("stem", "norm"))
    before = learner.weights()
    after = train(learner).weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert "output.weight" in changed
    assert not any(name.startswith(("stem", "norm")) for name in changed)
    assert not any("stem" in name or "/norm" in name for name in learner.state().arrays if name.startswith("optimizer"))


def test_evaluation_and_prediction_change_nothing(framework: str) -> None:
    learner = train(build(framework), last=4)
    before = snapshot(learner)
    found = learner.evaluate(pictures(), 16)
    probabilities = learner.predict(pictures()["x"], 16)
    assert snapshot(learner) == before
    assert probabilities.shape == (ROWS, CLASSES)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    right = float((probabilities.argmax(axis=1) == pictures()["y"]).mean())
    chosen = probabilities[np.arange(ROWS), pictures()["y"]]
    assert found == pytest.approx({"loss": float(-np.log(chosen).mean()), "accuracy": right}, rel=1e-4)
    assert learner.predict(pictures()["x"][:0], 16).shape == (0, CLASSES)
    learner.device_kind = "gpu"  # whose batches are fetched one late
    np.testing.assert_array_equal(learner.predict(pictures()["x"], 16), probabilities)
    assert snapshot(train(learner, 4)) == snapshot(train(build(framework)))


def test_weights_go_round_and_are_float32(framework: str) -> None:
    learner = train(build(framework))
    weights = learner.weights()
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in weights.values())
    assert {"stem.weight", "norm.running_mean", "norm.running_var", "output.bias"} <= weights.keys()
    other = build(framework, seed=5)
    other.load_weights(weights)
    assert all(np.array_equal(array, weights[name]) for name, array in other.weights().items())
    train(learner)
    assert not np.array_equal(weights["output.weight"], learner.weights()["output.weight"]), "a copy, then"
    with pytest.raises(ValueError, match=r"output\.weight has shape"):
        other.load_weights({**weights, "output.weight": np.zeros((1, 1), np.float32)})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_and_the_schedule_are_those_of_the_training(framework: str, optimizer: str) -> None:
    learner = build(framework, optimizer=optimizer)
    slots = {name.rpartition("/")[2] for name in train(learner, last=2).state().arrays if name.startswith("optimizer")}
    wanted = {
        "sgd": {"momentum_buffer"}, "adam": {"exp_avg", "exp_avg_sq"}, "adamw": {"exp_avg", "exp_avg_sq"},
        "rmsprop": {"square_avg"}, "adadelta": {"square_avg", "acc_delta"},
    }  # fmt: skip
    assert slots - {"step", "count"} == wanted[optimizer]
    assert learner.read_metrics()["learning_rate"] == pytest.approx(0.01 * 2 / 3)


def test_it_learns(framework: str) -> None:
    learner = build(framework, augment=[], learning_rate=0.05, warmup_steps=0, lr_schedule="constant")
    before = learner.evaluate(pictures(), BATCH)["loss"]
    for _ in range(6):
        train(learner)
    assert learner.evaluate(pictures(), BATCH)["loss"] < before / 2


@pytest.mark.parametrize("change", [{"augment": []}, {"grad_clip": None}, {"weight_decay": 0.0}, {"warmup_steps": 0}])
def test_settings_of_the_training_are_used(framework: str, change: dict[str, Any]) -> None:
    assert snapshot(train(build(framework, **change), last=3)) != snapshot(train(build(framework), last=3))


def test_metrics_are_the_means_of_the_rows_since_the_last_read(framework: str) -> None:
    learner = build(framework)
    assert learner.read_metrics() == {}
    whole = train(build(framework), last=2).read_metrics()
    parts = [train(learner, step, step + 1).read_metrics() for step in range(2)]
    assert whole["loss"] == pytest.approx(np.mean([part["loss"] for part in parts]))
    assert whole["accuracy"] == pytest.approx(np.mean([part["accuracy"] for part in parts]))
