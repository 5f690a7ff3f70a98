"""The canonical weights of a CNN: names, shapes and initial values, the same in both frameworks.

conv{i}.weight [out, in, kh, kw]   conv{i}.bias [out]
conv{i}.depthwise [in, 1, kh, kw]  conv{i}.pointwise [out, in, 1, 1]          (in place of the weight, where separable)
norm{i}.weight | bias [out]        norm{i}.running_mean | running_var [out]   (the last two with batch norm only)
dense{i}.weight [out, in]          dense{i}.bias [out]      the first dense layer reads its input in C, H, W order
output.weight [out, in]            output.bias [out]

For the normalization see `worker.training.numerics.norms`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nightshift.families.learner import Array
from shared.lazy_numpy import np
from worker.training.numerics.data_order import generator
from worker.training.numerics.norms import NORM_WEIGHTS

if TYPE_CHECKING:
    from worker.families.cnn.family import CnnModel

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
        found |= _kernels(model, f"conv{i}", channels, filters) | {f"conv{i}.bias": (filters,)}
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


def _kernels(model: CnnModel, name: str, channels: int, filters: int) -> dict[str, tuple[int, ...]]:
    window = (model.kernel_size, model.kernel_size)
    if model.convolution == "separable":
        return {f"{name}.depthwise": (channels, 1, *window), f"{name}.pointwise": (filters, channels, 1, 1)}
    return {f"{name}.weight": (filters, channels, *window)}


def is_kernel(shape: tuple[int, ...]) -> bool:
    """Return whether a weight of this shape is a kernel, which l1 and l2 count, and no bias or scale of a norm."""
    return len(shape) > 1


def initial(model: CnnModel, classes: int, seed: int) -> dict[str, Array]:
    """Return initial weights: zero biases, uniform kernels.

    Before a ReLU their range is He's (He et al. 2015) if `initialization` says so; where nothing follows a depthwise
    kernel, it keeps the variance. All others, and the output's, are Glorot's (Glorot & Bengio 2010), as in Keras.
    """
    draw = generator(seed, "init", 0)
    he = model.initialization == "he" and model.activation == "relu"
    return {name: _start(draw, name, shape, he) for name, shape in shapes(model, classes).items()}


def _start(draw: np.random.Generator, name: str, shape: tuple[int, ...], he: bool) -> Array:
    if not is_kernel(shape):
        ones = name.startswith("norm") and name.endswith(("weight", "running_var"))
        return np.full(shape, float(ones), np.float32)
    limit = _limit(name, shape, he)
    return draw.uniform(-limit, limit, shape).astype(np.float32)


def _limit(name: str, shape: tuple[int, ...], he: bool) -> float:
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    if not he or name.startswith("output"):
        return math.sqrt(6 / (fan_in + fan_out))
    return math.sqrt((3 if name.endswith("depthwise") else 6) / fan_in)
