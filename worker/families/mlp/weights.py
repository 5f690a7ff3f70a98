"""The canonical weights of a perceptron: names, shapes and initial values, the same in both frameworks.

dense{i}.weight [out, in]   dense{i}.bias [out]   output.weight [out, in]   output.bias [out]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nightshift.families.layers import Layer
from shared.lazy_numpy import np
from worker.families.mlp.encoding import Encoding
from worker.training.numerics.data_order import generator

if TYPE_CHECKING:
    from nightshift.families.learner import Array
    from worker.families.mlp.family import MlpModel


def shapes(model: MlpModel, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight, in the order of the network."""
    found: dict[str, tuple[int, ...]] = {}
    for name, width, units in _dense(model, facts):
        found |= {f"{name}.weight": (units, width), f"{name}.bias": (units,)}
    return found


def initial(model: MlpModel, facts: Mapping[str, Any], seed: int) -> dict[str, Array]:
    """Return initial weights.

    He uniform before a ReLU (He et al. 2015), Glorot uniform elsewhere, zero biases. A category that no training row
    has adds nothing: the weights of `other` begin at zero.
    """
    draw = generator(seed, "init", 0)
    relu = model.activation == "relu"
    weights = {
        name: _start(draw, shape, he=relu and not name.startswith("output"))
        for name, shape in shapes(model, facts).items()
    }
    first = next(name for name in weights if name.endswith("weight"))
    weights[first][:, Encoding.of(facts).others()] = 0
    return weights


def _start(draw: np.random.Generator, shape: tuple[int, ...], *, he: bool) -> Array:
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    fan_out, fan_in = shape
    limit = math.sqrt(6 / fan_in if he else 6 / (fan_in + fan_out))
    return draw.uniform(-limit, limit, shape).astype(np.float32)


def layers_of(model: MlpModel, facts: Mapping[str, Any]) -> list[Layer]:
    """Return the layers for a summary."""
    kinds = [f"dense, {model.activation}" + (f", dropout {model.dropout:g}" if model.dropout else "")] * len(
        model.hidden
    )
    kinds.append("dense, softmax" if facts.get("classes") else "dense")
    return [
        Layer(name, kind, (units,), parameters=(width + 1) * units)
        for kind, (name, width, units) in zip(kinds, _dense(model, facts), strict=True)
    ]


def _dense(model: MlpModel, facts: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Yield the name, inputs and units of each layer."""
    width = Encoding.of(facts).width
    for i, units in enumerate(model.hidden):
        yield f"dense{i}", width, units
        width = units
    yield "output", width, len(facts.get("classes") or ()) or 1
