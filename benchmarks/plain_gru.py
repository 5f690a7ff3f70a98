"""The GRU language model as plain scripts train it, in float32: Keras with `fit`, torch with a `DataLoader`."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.plain_cnn import by_fit
from benchmarks.sides import Measure, by_steps
from nightshift.families.learner import Array
from worker.families.gru_lm.family import GruLmModel

ROWS = 1024


def make_windows(model: GruLmModel) -> Array:
    """Return random tokens, which cost as much as words."""
    return np.random.default_rng(0).integers(0, model.vocabulary_size, (ROWS, model.window + 1)).astype(np.uint16)


def keras_network(model: GruLmModel) -> Any:
    """Return embedding, GRU layers with dropout, and logits, compiled."""
    import keras

    layers: list[Any] = [keras.layers.Embedding(model.vocabulary_size, model.embedding)]
    for units in model.units:
        layers += [keras.layers.GRU(units, return_sequences=True), keras.layers.Dropout(model.dropout)]
    net = keras.Sequential([*layers, keras.layers.Dense(model.vocabulary_size, dtype="float32")])
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return net


def keras_script(preset: dict[str, Any], batch_size: int) -> Measure:
    """Return `fit`, an epoch at a time, of as many rows as fit into the seconds; tokens per second."""
    model = GruLmModel.model_validate(preset)
    windows = make_windows(model).astype(np.int32)
    return by_fit(keras_network(model), windows[:, :-1], windows[:, 1:], batch_size, units=model.window)


def torch_script(preset: dict[str, Any], batch_size: int) -> Measure:
    """Return the loop of the framework's own introduction; tokens per second."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    model = GruLmModel.model_validate(preset)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(model.vocabulary_size, model.embedding)
            sizes = zip(model.inputs_of_layers(), model.units, strict=True)
            self.layers = nn.ModuleList(nn.GRU(i, h, batch_first=True) for i, h in sizes)
            self.dropout = nn.Dropout(model.dropout)
            self.output = nn.Linear(model.units[-1], model.vocabulary_size)

        def forward(self, tokens: Any) -> Any:
            x = self.embedding(tokens)
            for layer in self.layers:
                x = self.dropout(layer(x)[0])
            return self.output(x)

    net, judge = Network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    windows = torch.from_numpy(make_windows(model).astype(np.int64))
    endless = cycle(DataLoader(TensorDataset(windows), batch_size, shuffle=True, drop_last=True))

    def step() -> None:
        (batch,) = next(endless)
        optimizer.zero_grad()
        loss = judge(net(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()

    return by_steps(step, batch_size * model.window)
