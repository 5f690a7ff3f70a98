"""Every option of the CNN, in both frameworks, against the same model in plain torch.nn and in plain Keras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from nightshift.families.learner import Array
from tests.support.frameworks import FRAMEWORKS, THREADS, close, gradients, learner
from worker.kinds.base_model import build, read_model

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

ROWS = 10
SMALL = {"image_size": (13, 11), "filters": [4, 5], "pool": [True, False], "dense": [6], "image_channels": 3}
ALL = {
    "activation": "tanh", "padding": "same", "pooling": "average", "loss": "mean_squared_error", "l1": 0.02, "l2": 0.03,
    "convolution": "separable", "kernel_size": 2,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "as it was": {},
    "sigmoid": {"activation": "sigmoid"},
    "tanh": {"activation": "tanh"},
    "same": {"padding": "same"},
    "same, even kernel": {"padding": "same", "kernel_size": 4},
    "average": {"pooling": "average"},
    "average after sigmoid": {"pooling": "average", "activation": "sigmoid"},
    "squared error": {"loss": "mean_squared_error"},
    "squared error of two classes": {"loss": "mean_squared_error", "output": "sigmoid"},
    "l1": {"l1": 0.05},
    "l2": {"l2": 0.05},
    "separable": {"convolution": "separable"},
    "separable, same": {"convolution": "separable", "padding": "same", "l2": 0.01},
    "all": ALL,
}


@pytest.fixture(scope="module", params=OPTIONS)
def fields(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {**SMALL, **OPTIONS[request.param]}


def facts(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"classes": [str(n) for n in range(2 if fields.get("output") == "sigmoid" else 3)]}


def batch(learner: Any) -> dict[str, Array]:
    draw = np.random.default_rng(3)
    shape = (ROWS, *learner.model.image_size, learner.model.image_channels)
    return {"x": draw.integers(0, 256, shape).astype(np.uint8), "y": draw.integers(0, learner.classes, ROWS)}


def prepared(fields: Mapping[str, Any], framework: str) -> tuple[Any, dict[str, Array], dict[str, Array]]:
    """A learner whose biases are not zero, its batch, and its weights."""
    ours = learner("cnn", framework, facts(fields), fields, optimizer="sgd")
    draw = np.random.default_rng(5)
    weights = {name: array + draw.normal(0, 0.1, array.shape) for name, array in ours.weights().items()}
    weights = {name: array.astype(np.float32) for name, array in weights.items()}
    ours.load_weights(weights)
    data = batch(ours)
    ours.set_data(data)
    return ours, data, weights


def check(ours: Any, data: Mapping[str, Array], outputs: Array, loss: float, wanted: Mapping[str, Array]) -> None:
    """Compare outputs, the loss without penalties, and the gradient of the loss with them."""
    outputs = outputs if outputs.shape[1] > 1 else np.concatenate([1 - outputs, outputs], 1)
    np.testing.assert_allclose(ours.predict(data["x"], 4), outputs, rtol=1e-4, atol=1e-6)
    assert ours.evaluate(data, ROWS)["loss"] == pytest.approx(loss, rel=1e-4)
    found = gradients(ours, ROWS)
    assert ours.read_metrics()["loss"] == pytest.approx(loss, rel=1e-4)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert close(found[name], gradient, 2e-4), name


# -- plain torch.nn -------------------------------------------------------------------------------


def plain_torch(model: Any, classes: int) -> Any:
    nn = torch.nn
    activation = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}[model.activation]
    size, channels = model.kernel_size, model.image_channels
    before, after = ((size - 1) // 2, size // 2) if model.padding == "same" else (0, 0)
    layers: dict[str, Any] = {}
    for i, (filters, pooled) in enumerate(zip(model.filters, model.pool, strict=True)):
        layers[f"pad{i}"] = nn.ZeroPad2d((before, after, before, after))
        if model.convolution == "separable":
            layers[f"conv{i}_depthwise"] = nn.Conv2d(channels, channels, size, groups=channels, bias=False)
            layers[f"conv{i}_pointwise"] = nn.Conv2d(channels, filters, 1)
        else:
            layers[f"conv{i}"] = nn.Conv2d(channels, filters, size)
        layers[f"activation{i}"] = activation()
        if pooled:
            layers[f"pool{i}"] = nn.AvgPool2d(2) if model.pooling == "average" else nn.MaxPool2d(2)
        channels = filters
    layers["flatten"] = nn.Flatten()
    width = int(np.prod(model.feature_map()))
    for i, units in enumerate(model.dense):
        layers[f"dense{i}"], layers[f"dense{i}_activation"] = nn.Linear(width, units), activation()
        width = units
    layers["output"] = nn.Linear(width, 1 if model.output == "sigmoid" else classes)
    layers["probabilities"] = nn.Sigmoid() if model.output == "sigmoid" else nn.Softmax(1)
    net = nn.Sequential()
    for name, layer in layers.items():
        net.add_module(name, layer)
    return net


def torch_name(model: Any, canonical: str) -> str:
    layer, kind = canonical.split(".")
    if model.convolution == "separable" and layer.startswith("conv"):
        return f"{layer}_depthwise.weight" if kind == "depthwise" else f"{layer}_pointwise.{_kind(kind)}"
    return canonical


def _kind(kind: str) -> str:
    return "weight" if kind == "pointwise" else kind


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_option_is_that_of_torch_nn(fields: dict[str, Any], framework: str) -> None:
    ours, data, weights = prepared(fields, framework)
    model, nn = ours.model, torch.nn.functional
    net = plain_torch(model, ours.classes)
    net.load_state_dict({torch_name(model, name): torch.from_numpy(array) for name, array in weights.items()})
    images = torch.from_numpy(data["x"].astype(np.float32) / 255).permute(0, 3, 1, 2)
    probabilities, labels = net(images), torch.from_numpy(data["y"])
    one_hot = labels[:, None].float() if model.output == "sigmoid" else nn.one_hot(labels, ours.classes).float()
    if model.loss == "mean_squared_error":
        loss = ((probabilities - one_hot) ** 2).mean()
    else:
        loss = nn.nll_loss(probabilities.log(), labels)
    kernels = [parameter for name, parameter in net.named_parameters() if name.endswith("weight")]
    penalty = sum(model.l1 * kernel.abs().sum() + model.l2 * (kernel**2).sum() for kernel in kernels)
    (loss + penalty).backward()
    grads = {name: parameter.grad.numpy() for name, parameter in net.named_parameters()}
    wanted = {name: grads[torch_name(model, name)] for name in weights}
    check(ours, data, probabilities.detach().numpy(), loss.item(), wanted)


# -- plain Keras ----------------------------------------------------------------------------------


def plain_keras(model: Any, classes: int) -> Any:
    from keras import layers

    penalty = keras.regularizers.L1L2(model.l1, model.l2) if model.l1 or model.l2 else None
    parts: list[Any] = [layers.Input((*model.image_size, model.image_channels))]
    for i, (filters, pooled) in enumerate(zip(model.filters, model.pool, strict=True)):
        given = {"padding": model.padding, "activation": model.activation, "name": f"conv{i}"}
        if model.convolution == "separable":
            both = {"depthwise_regularizer": penalty, "pointwise_regularizer": penalty}
            parts.append(layers.SeparableConv2D(filters, model.kernel_size, **given, **both))
        else:
            parts.append(layers.Conv2D(filters, model.kernel_size, kernel_regularizer=penalty, **given))
        pool = layers.AveragePooling2D if model.pooling == "average" else layers.MaxPooling2D
        parts += [pool(2)] if pooled else []
    parts.append(layers.Flatten())
    for i, units in enumerate(model.dense):
        parts.append(layers.Dense(units, model.activation, kernel_regularizer=penalty, name=f"dense{i}"))
    outputs = 1 if model.output == "sigmoid" else classes
    parts.append(layers.Dense(outputs, model.output, kernel_regularizer=penalty, name="output"))
    return keras.Sequential(parts)


def from_keras(model: Any, layer: str, variable: Any, array: Array) -> tuple[str, Array]:
    """The canonical name and layout of an array that belongs to a variable of Keras."""
    if variable.name == "depthwise_kernel":
        return f"{layer}.depthwise", array.transpose(2, 3, 0, 1)
    if array.ndim == 4:
        name = "pointwise" if variable.name == "pointwise_kernel" else "weight"
        return f"{layer}.{name}", array.transpose(3, 2, 0, 1)
    if array.ndim == 2:
        if layer == "dense0":
            array = array.reshape(*model.feature_map(), -1).transpose(2, 0, 1, 3).reshape(len(array), -1)
        return f"{layer}.weight", array.T
    return f"{layer}.bias", array


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_option_is_that_of_keras(fields: dict[str, Any], framework: str) -> None:
    keras.utils.set_random_seed(1)
    ours = learner("cnn", framework, facts(fields), fields, optimizer="sgd")
    net = plain_keras(ours.model, ours.classes)
    variables = [(layer.name, variable) for layer in net.layers for variable in layer.trainable_variables]
    ours.load_weights(dict(from_keras(ours.model, name, one, one.numpy()) for name, one in variables))
    data = batch(ours)
    ours.set_data(data)
    labels = data["y"][:, None] if ours.model.output == "sigmoid" else np.eye(ours.classes)[data["y"]]
    squared = ours.model.loss == "mean_squared_error"
    measure = keras.losses.MeanSquaredError() if squared else keras.losses.CategoricalCrossentropy()
    images = tf.constant(data["x"].astype(np.float32) / 255)
    with tf.GradientTape() as tape:
        probabilities = net(images)
        loss = measure(labels, probabilities)
        minimized = tf.add_n([loss, *net.losses])
    wanted = tape.gradient(minimized, [variable.value for _, variable in variables])
    gradient_of = [
        from_keras(ours.model, name, one, array.numpy()) for (name, one), array in zip(variables, wanted, strict=True)
    ]
    check(ours, data, probabilities.numpy(), float(loss), dict(gradient_of))


# -- models of earlier versions -------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_registered_model_without_the_options_predicts_as_it_did(framework: str, tmp_path: Path) -> None:
    fields = {**SMALL, "preset": "mnist-3conv", "normalization": "batch"}
    trained = learner("cnn", framework, facts(fields), fields)
    config = {"format": 1, "family": "cnn", "model": trained.model.model_dump(mode="json"), **facts(fields)}
    for name in ("convolution", "padding", "pooling", "activation", "loss", "l1", "l2", "initialization"):
        del config["model"][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(trained.weights(), tmp_path / "model.safetensors")
    assignment: Any = SimpleNamespace(parent_model_dir=str(tmp_path), device="cpu")
    again = build(read_model(assignment), framework, assignment, THREADS)
    x = batch(trained)["x"]
    np.testing.assert_array_equal(again.predict(x, 4), trained.predict(x, 4))


# -- what holds of options in training ------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["all", "separable, same", "average after sigmoid", "same, even kernel"])
def test_options_train_in_every_precision(framework: str, precision: str, name: str) -> None:
    fields = {**SMALL, **OPTIONS[name], "l1": 0.0, "l2": 0.0, "normalization": "batch", "dropout": 0.1}
    ours = learner("cnn", framework, facts(fields), fields, learning_rate=0.02, precision=precision)
    data = batch(ours)
    ours.set_data(data)
    before = ours.evaluate(data, ROWS)["loss"]
    for step in range(40):
        ours.train_step(np.arange(ROWS), step)
    assert ours.read_metrics()["loss"] < before


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_penalty_shrinks_kernels_that_learn_and_no_others(framework: str) -> None:
    frozen = {**facts(SMALL), "frozen": ["conv"]}
    ours = learner("cnn", framework, frozen, {**SMALL, "l2": 1.0}, optimizer="adam", learning_rate=0.01)
    ours.set_data(batch(ours))
    before = ours.weights()
    for step in range(20):
        ours.train_step(np.arange(ROWS), step)
    after = ours.weights()
    assert np.array_equal(after["conv1.weight"], before["conv1.weight"])
    for name in ("dense0.weight", "output.weight"):
        assert np.abs(after[name]).sum() < 0.8 * np.abs(before[name]).sum()
