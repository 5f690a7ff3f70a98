"""The canonical weights of a CNN: names, shapes and initial values, the same in both frameworks.

conv{i}.weight [out, in, kh, kw]   conv{i}.bias [out]
norm{i}.weight | bias [out]        norm{i}.running_mean | running_var [out]   (the last two with batch norm only)
dense{i}.weight [out, in]          dense{i}.bias [out]      the first dense layer reads its input in C, H, W order
output.weight [out, in]            output.bias [out]

For the normalization see `worker.training.numerics.norms`.
"""

from __future__ import annotations

import math

import numpy as np

from nightshift.families.learner import Array
from worker.families.cnn.family import CnnModel
from worker.training.numerics.data_order import generator
from worker.training.numerics.norms import NORM_WEIGHTS

#: Factor from stored bytes to the network's inputs.
PIXEL_SCALE = 1 / 255


def outputs(model: CnnModel, classes: int) -> int:
    """Return the number of logits: one per class, or one for the second of two classes."""
    return 1 if model.output == "sigmoid" else classes


def shapes(model: CnnModel, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight, in the order of the network."""
    found: dict[str, tuple[int, ...]] = {}
    channels: int = model.image_channels
    for i, filters in enumerate(model.filters):
        found[f"conv{i}.weight"] = (filters, channels, model.kernel_size, model.kernel_size)
        found[f"conv{i}.bias"] = (filters,)
        found |= {f"norm{i}.{part}": (filters,) for part in NORM_WEIGHTS[model.normalization]}
        channels = filters
    width = math.prod(model.feature_map())
    for i, units in enumerate(model.dense):
        found |= {f"dense{i}.weight": (units, width), f"dense{i}.bias": (units,)}
        width = units
    return found | {
        "output.weight": (outputs(model, classes), width),
        "output.bias": (outputs(model, classes),),
    }


def initial(model: CnnModel, classes: int, seed: int) -> dict[str, Array]:
    """Return initial weights.

    He uniform before a ReLU (He et al. 2015), Glorot uniform for the output, zero biases.
    """
    draw = generator(seed, "init", 0)
    return {name: _start(draw, name, shape) for name, shape in shapes(model, classes).items()}


def _start(draw: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if len(shape) == 1:
        ones = name.startswith("norm") and name.endswith(("weight", "running_var"))
        return np.full(shape, float(ones), np.float32)
    fan_in, fan_out = math.prod(shape[1:]), shape[0]
    limit = math.sqrt(6 / (fan_in + fan_out) if name.startswith("output") else 6 / fan_in)
    return draw.uniform(-limit, limit, shape).astype(np.float32)
