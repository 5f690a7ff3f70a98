"""The canonical weights of a GRU language model: names, shapes and initial values in both frameworks.

embedding.weight [vocabulary, e]
gru{i}.weight_ih [3h, in]   gru{i}.weight_hh [3h, h]   gru{i}.bias_ih [3h]   gru{i}.bias_hh [3h]
norm{i}.weight [h]          norm{i}.bias [h]           (normalization "layer" only; over the units, NORM_EPS)
output.weight [vocabulary, h]                          output.bias [vocabulary]

The GRU is that of `worker.training.numerics.recurrent`.
"""

from __future__ import annotations

import math

import numpy as np

from nightshift.families.learner import Array
from worker.families.gru_lm.family import GruLmModel
from worker.training.numerics.data_order import generator

#: Embeddings start uniform in ± this range.
EMBEDDING_RANGE = 0.1

#: Most tokens counted for the initial output bias.
COUNTED_TOKENS = 5_000_000


def shapes(model: GruLmModel, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight, in the order of the network."""
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (vocabulary, model.embedding)}
    for i, (inputs, units) in enumerate(zip(model.inputs_of_layers(), model.units, strict=True)):
        found |= {f"gru{i}.weight_ih": (3 * units, inputs), f"gru{i}.weight_hh": (3 * units, units)}
        found |= {f"gru{i}.bias_ih": (3 * units,), f"gru{i}.bias_hh": (3 * units,)}
        if model.normalization == "layer":
            found |= {f"norm{i}.weight": (units,), f"norm{i}.bias": (units,)}
    return found | {"output.weight": (vocabulary, model.units[-1]), "output.bias": (vocabulary,)}


def initial(model: GruLmModel, vocabulary: int, seed: int) -> dict[str, Array]:
    """Return initial weights.

    Glorot uniform inputs (per gate), orthogonal recurrences (Saxe et al. 2014), zero biases (`output_bias` follows with
    the data).
    """
    draw = generator(seed, "init", 0)
    return {name: _start(draw, name, shape) for name, shape in shapes(model, vocabulary).items()}


def output_bias(windows: Array, vocabulary: int) -> Array:
    """Return the initial output bias: the log of each token's frequency (plus one).

    It spares the first epoch from learning the frequencies. In a long text, evenly spaced windows are counted.
    """
    chosen = windows[:: max(1, windows.size // COUNTED_TOKENS), 1:]
    counts = np.bincount(np.asarray(chosen).reshape(-1), minlength=vocabulary) + 1.0
    bias: Array = np.log(counts / counts.sum()).astype(np.float32)
    return bias


def _start(draw: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if len(shape) == 1:
        ones = name.startswith("norm") and name.endswith("weight")
        return np.full(shape, float(ones), np.float32)
    if name == "embedding.weight":
        return draw.uniform(-EMBEDDING_RANGE, EMBEDDING_RANGE, shape).astype(np.float32)
    if name.endswith("weight_hh"):
        return np.concatenate([_orthogonal(draw, shape[1]) for _ in range(3)])
    fan_out = shape[0] // 3 if name.endswith("weight_ih") else shape[0]
    limit = math.sqrt(6 / (shape[1] + fan_out))
    return draw.uniform(-limit, limit, shape).astype(np.float32)


def _orthogonal(draw: np.random.Generator, n: int) -> Array:
    q, r = np.linalg.qr(draw.standard_normal((n, n)))
    return (q * np.where(np.diagonal(r) < 0, -1.0, 1.0)).astype(np.float32)
