"""The CNN in ONNX: bytes [rows, height, width, channels] to probabilities [rows, classes]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array
from worker.families.cnn.weights import PIXEL_SCALE
from worker.onnx_models.export import properties
from worker.onnx_models.graph import Graph, probabilities
from worker.training.numerics.norms import NORM_EPS

_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def export(model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> bytes:
    """Return the network of a model with these weights as an ONNX file."""
    network = _Network(model, _scaled(weights))
    graph = network.graph
    maps = network.maps(network.pixels())
    logits = network.units(graph.shaped(maps, [-1, math.prod(model.feature_map())]))
    found = probabilities(graph, logits, sigmoid=model.output == "sigmoid")
    return graph.finish(found, [len(facts["classes"])], properties(model, facts))


def _scaled(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return the weights for pixels from 0 to 255: the first kernels read them."""
    first = "conv0.depthwise" if "conv0.depthwise" in weights else "conv0.weight"
    return {**weights, first: (weights[first].astype(np.float64) * PIXEL_SCALE).astype(np.float32)}


class _Network:
    """The layers of one model."""

    def __init__(self, model: Any, weights: Mapping[str, Array]) -> None:
        self.model, self.weights = model, weights
        self.graph = Graph("images", np.uint8, [*model.image_size, model.image_channels])

    def pixels(self) -> str:
        """Return the input as float32 [rows, channels, height, width]."""
        x = self.graph.cast(self.graph.input, np.float32)
        if self.model.image_channels == 1:  # the same order of numbers
            return self.graph.shaped(x, [-1, 1, *self.model.image_size])
        return str(self.graph.add("Transpose", x, perm=[0, 3, 1, 2]))

    def maps(self, x: str) -> str:
        """Return the last maps."""
        size, channels = self.model.image_size, self.model.image_channels
        lost = self.model.kernel_size - 1 if self.model.padding == "valid" else 0
        sizes = self.model.map_sizes()
        for i, (filters, pooled) in enumerate(zip(self.model.filters, self.model.pool, strict=True)):
            x = self._convolution(x, f"conv{i}", channels)
            x = self._norm(x, f"norm{i}", (filters, size[0] - lost, size[1] - lost))
            x = self._activation(x)
            if pooled:
                operator = "AveragePool" if self.model.pooling == "average" else "MaxPool"
                x = self.graph.add(operator, x, kernel_shape=[2, 2], strides=[2, 2])
            channels, size = filters, sizes[i]
        return x

    def units(self, x: str) -> str:
        """Return the logits."""
        for i in range(len(self.model.dense)):
            x = self._activation(self.graph.linear(x, f"dense{i}", self.weights))
        return self.graph.linear(x, "output", self.weights)

    def _convolution(self, x: str, name: str, channels: int) -> str:
        lost = self.model.kernel_size - 1 if self.model.padding == "same" else 0
        pads = [lost // 2, lost // 2, lost - lost // 2, lost - lost // 2]
        if self.model.convolution == "separable":
            x = self.graph.add("Conv", x, self._weight(f"{name}.depthwise"), pads=pads, group=channels)
            return str(self.graph.add("Conv", x, self._weight(f"{name}.pointwise"), self._weight(f"{name}.bias")))
        return str(self.graph.add("Conv", x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias"), pads=pads))

    def _norm(self, x: str, name: str, shape: tuple[int, int, int]) -> str:
        """Apply the normalization; `shape` is that of the maps: filters, height, width."""
        match self.model.normalization:
            case "batch":
                parts = ("weight", "bias", "running_mean", "running_var")
                weights = [self._weight(f"{name}.{part}") for part in parts]
                return str(self.graph.add("BatchNormalization", x, *weights, epsilon=NORM_EPS))
            case "layer":
                return self.graph.normalized(x, self.weights, name, shape)
        return x

    def _activation(self, x: str) -> str:
        return str(self.graph.add(_ACTIVATIONS[self.model.activation], x))

    def _weight(self, name: str) -> str:
        return self.graph.constant(name, self.weights[name])
