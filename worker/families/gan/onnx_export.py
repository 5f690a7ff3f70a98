"""The generator of a GAN in ONNX: noise [rows, latent] to images [rows, height, width, channels].

The noise is normal; the images are 0 … 1 or, where the output is tanh, -1 … 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array
from worker.onnx_models.export import properties
from worker.onnx_models.graph import Graph
from worker.training.numerics.norms import NORM_EPS

_OUTPUTS = {"sigmoid": "Sigmoid", "tanh": "Tanh"}


def export(model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> bytes:
    """Return the generator of a model with these weights as an ONNX file."""
    network = _Generator(model, weights)
    graph = network.graph
    images = graph.add(_OUTPUTS[model.output], network.maps(network.dense(graph.input)))
    images = graph.add("Transpose", images, perm=[0, 2, 3, 1])
    return graph.finish(images, [*model.image_size, model.image_channels], properties(model, facts))


class _Generator:
    """The layers of one generator; `worker.families.gan.weights` names their weights."""

    def __init__(self, model: Any, weights: Mapping[str, Array]) -> None:
        self.model, self.weights = model, weights
        self.graph = Graph("noise", np.float32, [model.latent])

    def dense(self, x: str) -> str:
        """Return the units of the dense layers."""
        for i, units in enumerate(self.model.generator_dense):
            x = self._rectified(self._linear(x, f"generator.dense{i}"), f"generator.dense_norm{i}", (units,))
        return x

    def maps(self, x: str) -> str:
        """Return what the output's activation gets: [rows, channels, height, width]."""
        model, filters = self.model, self.model.generator_filters
        if not filters:
            return self.graph.shaped(self._linear(x, "generator.output"), [-1, model.image_channels, *model.image_size])
        sizes = [tuple(model.halved(i)) for i in range(len(filters) + 1)]
        x = self.graph.shaped(self._linear(x, "generator.project"), [-1, filters[0], *sizes[-1]])
        x = self._rectified(x, "generator.norm0", (filters[0], *sizes[-1]))
        for i in range(1, len(filters)):
            before, after = sizes[len(filters) - i + 1], sizes[len(filters) - i]
            x = self._up(x, f"generator.up{i}", before, after)
            x = self._rectified(x, f"generator.norm{i}", (filters[i], *after))
        return self._up(x, "generator.output", sizes[1], sizes[0])

    def _linear(self, x: str, name: str) -> str:
        return str(self.graph.add("Gemm", x, *self._parts(name), transB=1))

    def _up(self, x: str, name: str, before: tuple[int, ...], after: tuple[int, ...]) -> str:
        """Add a transposed convolution that doubles height and width, plus one where the size after it is odd."""
        more = [wanted - 2 * size for wanted, size in zip(after, before, strict=True)]
        pads = [self.model.kernel_size // 2 - 1] * 4
        parts = self._parts(name)
        return str(self.graph.add("ConvTranspose", x, *parts, strides=[2, 2], pads=pads, output_padding=more))

    def _parts(self, name: str) -> list[str]:
        """Return the weight and, if there is one, the bias of a layer."""
        return [self._weight(f"{name}.{part}") for part in ("weight", "bias") if f"{name}.{part}" in self.weights]

    def _rectified(self, x: str, name: str, shape: tuple[int, ...]) -> str:
        """Apply the normalization, if there is any, and ReLU; `shape` is that of an example."""
        match self.model.generator_normalization:
            case "batch":
                parts = ("weight", "bias", "running_mean", "running_var")
                weights = [self._weight(f"{name}.{part}") for part in parts]
                x = self.graph.add("BatchNormalization", x, *weights, epsilon=NORM_EPS)
            case "layer":
                x = self.graph.normalized(x, self.weights, name, shape)
        return str(self.graph.add("Relu", x))

    def _weight(self, name: str) -> str:
        return self.graph.constant(name, self.weights[name])
