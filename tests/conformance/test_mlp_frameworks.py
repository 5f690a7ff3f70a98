"""The perceptron in torch and in TensorFlow is one model, and its written-out gradients are those of autograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.support.frameworks import FRAMEWORKS, close, gradients, learner
from worker.families.mlp.family import PRESETS

torch = pytest.importorskip("torch")
pytest.importorskip("tensorflow")

#: An odd number: with an even one, the signs of the errors may cancel to nothing but rounding.
ROWS, WIDTH = 13, 7
CLASSES = {"classes": ["a", "b", "c"]}
COLUMNS = [
    {"name": "x", "kind": "numbers", "marked": True},
    {"name": "y", "kind": "numbers"},
    {"name": "z", "kind": "numbers"},
    {"name": "c", "kind": "categories", "values": ["u", "v"]},
]
SCALE = {"mean": 50.0, "std": 4.0}
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"preset": name} for name in PRESETS},
    **{
        activation: {"hidden": [9, 5], "activation": activation} for activation in ("relu", "sigmoid", "tanh", "linear")
    },
    "dropout": {"hidden": [9, 6], "activation": "tanh", "dropout": 0.3},
}
LOSSES = ("cross_entropy", "mean_squared_error", "mean_absolute_error")


def facts(loss: str) -> dict[str, Any]:
    if loss == "cross_entropy":
        return {**CLASSES, "preprocessing": {"task": "classes", "columns": COLUMNS}}
    return {"preprocessing": {"task": "numbers", "columns": COLUMNS, "scale": SCALE}}


def pair(model: Mapping[str, Any], loss: str = "cross_entropy", **training: Any) -> tuple[Any, Any]:
    spec = {**model, "loss": loss}
    return tuple(learner("mlp", framework, facts(loss), spec, **training) for framework in FRAMEWORKS)  # type: ignore[return-value]


def batch(loss: str = "cross_entropy") -> dict[str, Any]:
    draw = np.random.default_rng(7)
    y = draw.integers(0, 3, ROWS) if loss == "cross_entropy" else draw.normal(50, 4, ROWS)
    return {"x": draw.normal(size=(ROWS, WIDTH)).astype(np.float32), "y": y}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MODELS)
def test_same_weights_and_batch_give_the_same_outputs_loss_and_gradients(name: str, loss: str) -> None:
    one, other = pair(MODELS[name], loss, optimizer="sgd")
    data = batch(loss)
    theirs = other.weights()
    assert one.weights().keys() == theirs.keys()
    for key, array in one.weights().items():
        np.testing.assert_array_equal(array, theirs[key], err_msg=key)
    np.testing.assert_allclose(one.predict(data["x"], 5), other.predict(data["x"], 5), rtol=1e-4, atol=1e-6)
    for each in (one, other):
        each.set_data(data)
    wanted, found = gradients(one, ROWS), gradients(other, ROWS)
    assert wanted.keys() == found.keys() == one.weights().keys()
    assert one.read_metrics() == pytest.approx(other.read_metrics(), rel=1e-4)
    for key in wanted:
        assert close(found[key], wanted[key]), key


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "linear"])
def test_written_out_gradients_are_those_of_autograd(activation: str, loss: str) -> None:
    one, _ = pair(MODELS[activation], loss, optimizer="sgd")
    data = batch(loss)
    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in one.weights().items()}
    x = torch.from_numpy(data["x"])
    for name in ("dense0", "dense1"):
        x = torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        x = x if activation == "linear" else getattr(torch, activation)(x)
    outputs = torch.nn.functional.linear(x, tensors["output.weight"], tensors["output.bias"])
    if loss == "cross_entropy":
        torch.nn.functional.cross_entropy(outputs, torch.from_numpy(data["y"])).backward()
    else:
        y = torch.from_numpy((data["y"] - SCALE["mean"]) / SCALE["std"]).float()
        judge = torch.nn.functional.mse_loss if loss == "mean_squared_error" else torch.nn.functional.l1_loss
        judge(outputs[:, 0], y).backward()
    one.set_data(data)
    found = gradients(one, ROWS)
    for name, tensor in tensors.items():
        assert close(found[name], tensor.grad.numpy(), 1e-5), name


@pytest.mark.parametrize("loss", ["cross_entropy", "mean_squared_error"])
def test_what_one_framework_trained_the_other_predicts_with(loss: str) -> None:
    one, other = pair(MODELS["mlp-2x64"], loss, learning_rate=0.01)
    data = batch(loss)
    for trained, unused in ((one, other), (other, one)):
        trained.set_data(data)
        for step in range(3):
            trained.train_step(np.arange(ROWS), step)
        assert np.abs(trained.predict(data["x"], 8) - unused.predict(data["x"], 8)).max() > 1e-2
        unused.load_weights(trained.weights())
        np.testing.assert_allclose(unused.predict(data["x"], 8), trained.predict(data["x"], 8), rtol=1e-4, atol=1e-4)
        assert unused.evaluate(data, 5) == pytest.approx(trained.evaluate(data, 5), rel=1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frozen_layers_keep_every_bit_and_the_output_learns(framework: str) -> None:
    one = learner("mlp", framework, {**facts("cross_entropy"), "frozen": ["dense"]}, MODELS["tanh"])
    before = one.weights()
    one.set_data(batch())
    one.train_step(np.arange(ROWS), 0)
    changed = [name for name, array in one.weights().items() if not np.array_equal(array, before[name])]
    assert changed == ["output.weight", "output.bias"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_numbers_are_measured_and_predicted_in_the_units_of_the_table(framework: str) -> None:
    one = learner("mlp", framework, facts("mean_squared_error"), MODELS["tanh"])
    data = batch("mean_squared_error")
    found = one.predict(data["x"], 5)
    errors = found - data["y"]
    measured = one.evaluate(data, 5)
    assert measured["loss"] == pytest.approx(np.square(errors).mean(), rel=1e-5)
    assert measured["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert measured["r2"] == pytest.approx(1 - np.square(errors).sum() / np.square(data["y"] - data["y"].mean()).sum())
    one.set_data(data)
    one.train_step(np.arange(ROWS), 0)
    assert one.read_metrics()["loss"] == pytest.approx(measured["loss"], rel=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adadelta"])
def test_every_optimizer_trains_in_every_precision(framework: str, precision: str, optimizer: str) -> None:
    how = {"precision": precision, "optimizer": optimizer, "weight_decay": 0.01, "grad_clip": 1.0}
    one = learner("mlp", framework, facts("cross_entropy"), MODELS["dropout"], **how)
    before = one.weights()
    one.set_data(batch())
    for step in range(3):
        one.train_step(np.arange(ROWS), step)
    assert np.isfinite(one.read_metrics()["loss"])
    assert all(not np.array_equal(array, before[name]) for name, array in one.weights().items())


def test_weights_of_another_shape_are_refused_by_name() -> None:
    for one, other in zip(pair({"hidden": [4]}), pair({"hidden": [5]}), strict=True):
        with pytest.raises(ValueError, match=r"dense0\.weight"):
            one.load_weights(other.weights())
