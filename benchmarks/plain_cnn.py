"""The CNN as plain scripts train it: Keras with `fit`, torch with a `DataLoader`, both in float32."""

from __future__ import annotations

from itertools import cycle
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.sides import Measure, by_steps
from worker.families.cnn.family import CnnModel

CLASSES = 10


def make_data(model: CnnModel) -> dict[str, Any]:
    """Return random pixels and labels."""
    draw = np.random.default_rng(0)
    rows = 8192 if max(model.image_size) < 64 else 512
    shape = (rows, *model.image_size, model.image_channels)
    return {"x": draw.integers(0, 256, shape, dtype=np.uint8), "y": draw.integers(0, CLASSES, rows)}


def torch_network(model: CnnModel) -> Any:
    """Return the layers of a preset."""
    from torch import nn

    layers: list[nn.Module] = []
    channels: int = model.image_channels
    for filters, pooled in zip(model.filters, model.pool, strict=True):
        layers += [nn.Conv2d(channels, filters, model.kernel_size), *([nn.MaxPool2d(2)] if pooled else []), nn.ReLU()]
        channels = filters
    layers.append(nn.Flatten())
    width = int(np.prod(model.feature_map()))
    for units in model.dense:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def keras_network(model: CnnModel) -> Any:
    """Return the layers of a preset."""
    import keras

    layers: list[Any] = [keras.layers.Input((*model.image_size, model.image_channels))]
    for filters, pooled in zip(model.filters, model.pool, strict=True):
        layers.append(keras.layers.Conv2D(filters, model.kernel_size, activation="relu"))
        layers += [keras.layers.MaxPooling2D()] if pooled else []
    layers += [keras.layers.Flatten(), *(keras.layers.Dense(units, activation="relu") for units in model.dense)]
    return keras.Sequential([*layers, keras.layers.Dense(CLASSES, dtype="float32")])


def torch_script(preset: dict[str, Any], batch_size: int) -> Measure:
    """Return the loop of the framework's own introduction."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    model = CnnModel.model_validate(preset)
    data = make_data(model)
    net, judge = torch_network(model), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    images = torch.from_numpy(data["x"]).permute(0, 3, 1, 2).float() / 255
    batches = DataLoader(TensorDataset(images, torch.from_numpy(data["y"])), batch_size, shuffle=True, drop_last=True)
    endless = cycle(batches)

    def step() -> None:
        x, y = next(endless)
        optimizer.zero_grad()
        loss = judge(net(x), y)
        loss.backward()
        optimizer.step()

    return by_steps(step, batch_size)


def keras_script(preset: dict[str, Any], batch_size: int) -> Measure:
    """Return `compile` and `fit`: an epoch at a time, of as many rows as fit into the seconds."""
    import keras

    model = CnnModel.model_validate(preset)
    data = make_data(model)
    x, y = data["x"].astype(np.float32) / 255, data["y"]
    net = keras_network(model)
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return by_fit(net, x, y, batch_size, units=1)


def by_fit(net: Any, x: Any, y: Any, batch_size: int, units: int) -> Measure:
    """Return the measure of `fit`; a row has so many units."""
    few = min(len(x), 8 * batch_size)
    net.fit(x[:few], y[:few], batch_size, verbose=0)
    speed = [0.0]

    def measure(seconds: float) -> float:
        rows = min(len(x), max(few, int(seconds * speed[0]) // batch_size * batch_size))
        began = perf_counter()
        net.fit(x[:rows], y[:rows], batch_size, verbose=0)
        speed[0] = rows / (perf_counter() - began)
        return speed[0] * units

    return measure
