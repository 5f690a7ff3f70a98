"""The canonical weights of a tagger: names, shapes and initial values in both frameworks.

embedding.weight [vocabulary, e]          affixes.weight [affixes * BUCKETS, a] (unless `affixes` is 0)
rnn{i}.…, rnn{i}.reverse.…                (worker.training.numerics.recurrent)
output.weight [tags, ways * h]            output.bias [tags]
"""

from __future__ import annotations

import math

import numpy as np

from nightshift.families.learner import Array
from worker.families.tagger.family import TaggerModel
from worker.training.numerics import recurrent
from worker.training.numerics.data_order import generator
from worker.training.words.affixes import AFFIXES, BUCKETS

#: Embeddings start uniform in ± this range.
EMBEDDING_RANGE = 0.05


def shapes(model: TaggerModel, vocabulary: int, tags: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight, in the order of the network."""
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (vocabulary, model.embedding)}
    if model.affixes:
        found["affixes.weight"] = (len(AFFIXES) * BUCKETS, model.affixes)
    found |= recurrent.shapes(model.cell, model.read_width, model.units, bidirectional=model.bidirectional)
    return found | {"output.weight": (tags, model.ways * model.units[-1]), "output.bias": (tags,)}


def initial(model: TaggerModel, vocabulary: int, tags: int, seed: int) -> dict[str, Array]:
    """Return initial weights, as Keras has them."""
    draw = generator(seed, "init", 0)
    return {name: _start(draw, model, name, shape) for name, shape in shapes(model, vocabulary, tags).items()}


def _start(draw: np.random.Generator, model: TaggerModel, name: str, shape: tuple[int, ...]) -> Array:
    if name.startswith("rnn"):
        return recurrent.initial(draw, model.cell, name, shape)
    if name == "output.bias":
        return np.zeros(shape, np.float32)
    limit = math.sqrt(6 / sum(shape)) if name == "output.weight" else EMBEDDING_RANGE
    return draw.uniform(-limit, limit, shape).astype(np.float32)
