"""The layers of a CNN, for its summary before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nightshift.families.layers import Layer
from worker.families.cnn.weights import outputs, shapes
from worker.training.numerics.norms import RUNNING

if TYPE_CHECKING:
    from worker.families.cnn.family import CnnModel

_NORMS = {"batch": "batch normalization", "layer": "layer normalization"}


def layers_of(model: CnnModel, classes: int) -> list[Layer]:
    """Return the layers of a model for this many classes, from its input to its output."""
    sizes = shapes(model, classes)
    return [_with_parameters(layer, sizes) for layer in (*_maps(model), *_units(model, classes))]


def _maps(model: CnnModel) -> Iterator[Layer]:
    """Yield the layers whose outputs are maps."""
    height, width = model.image_size
    yield Layer("input", "image", (height, width, model.image_channels))
    lost = model.kernel_size - 1 if model.padding == "valid" else 0
    kind = f"{'separable ' * (model.convolution == 'separable')}convolution {model.kernel_size}x{model.kernel_size}"
    for i, (filters, pooled, size) in enumerate(zip(model.filters, model.pool, model.map_sizes(), strict=True)):
        shape = (height - lost, width - lost, filters)
        if model.normalization == "none":
            yield Layer(f"conv{i}", f"{kind}, {model.activation}", shape)
        else:
            yield Layer(f"conv{i}", kind, shape)
            yield Layer(f"norm{i}", f"{_NORMS[model.normalization]}, {model.activation}", shape)
        if pooled:
            yield Layer(f"pool{i}", f"{model.pooling} pooling 2x2", (*size, filters))
        height, width = size


def _units(model: CnnModel, classes: int) -> Iterator[Layer]:
    """Yield the layers whose outputs are units."""
    yield Layer("flatten", "flatten", (math.prod(model.feature_map()),))
    for i, units in enumerate(model.dense):
        yield Layer(f"dense{i}", f"dense, {model.activation}", (units,))
        if model.dropout:
            yield Layer(f"dropout{i}", f"dropout {model.dropout:g}", (units,))
    yield Layer("output", f"dense, {model.output}", (outputs(model, classes),))


def _with_parameters(layer: Layer, sizes: dict[str, tuple[int, ...]]) -> Layer:
    counts = {name: math.prod(shape) for name, shape in sizes.items() if name.startswith(f"{layer.name}.")}
    fixed = sum(count for name, count in counts.items() if RUNNING in name)
    return Layer(layer.name, layer.kind, layer.shape, sum(counts.values()) - fixed, fixed)
