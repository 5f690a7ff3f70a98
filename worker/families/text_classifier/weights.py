"""The canonical weights of a text classifier: names, shapes and initial values, the same in both frameworks.

embedding.weight [vocabulary, e]
affixes.weight [affixes * BUCKETS, e] (with `affixes`)
rnn{i}.…                              (worker.training.numerics.recurrent)
attention.weight [w, w]    attention.bias [w]    attention.context [1, w]    (pooling "attention")
dense{i}.weight [out, in]  dense{i}.bias [out]
output.weight [out, in]    output.bias [out]
output.ngrams [ngrams * BUCKETS, out] (with `ngrams`; of `worker.families.text_classifier.ngrams`)

Attention (Yang et al. 2016), over outputs of width w: tokens weigh softmax(context · tanh(W h + b)).
"""

from __future__ import annotations

import math

import numpy as np

from nightshift.families.learner import Array
from worker.families.text_classifier import ngrams
from worker.families.text_classifier.family import TextClassifierModel
from worker.training.numerics import recurrent
from worker.training.numerics.data_order import generator
from worker.training.words.affixes import AFFIXES, BUCKETS


def outputs(model: TextClassifierModel, classes: int) -> int:
    """Return the number of logits: one per class, or one for the second of two classes."""
    return 1 if model.output == "sigmoid" else classes


def shapes(model: TextClassifierModel, vocabulary: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight, in the order of the network."""
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (vocabulary, model.embedding)}
    if model.affixes:
        found["affixes.weight"] = (len(AFFIXES) * BUCKETS, model.embedding)
    found |= recurrent.shapes(model.cell, model.embedding, model.units, bidirectional=model.bidirectional)
    width = model.width
    if model.pooling == "attention":
        found |= {"attention.weight": (width, width), "attention.bias": (width,), "attention.context": (1, width)}
    for i, units in enumerate(model.dense):
        found |= {f"dense{i}.weight": (units, width), f"dense{i}.bias": (units,)}
        width = units
    logits = outputs(model, classes)
    found |= {"output.weight": (logits, width), "output.bias": (logits,)}
    return found | ({"output.ngrams": (model.ngrams * ngrams.BUCKETS, logits)} if model.ngrams else {})


def initial(model: TextClassifierModel, vocabulary: int, classes: int, seed: int) -> dict[str, Array]:
    """Return initial weights, as Keras has them: Glorot uniform products, orthogonal recurrences, zero biases.

    Those of n-grams are zero, too.
    """
    draw = generator(seed, "init", 0)
    return {name: _start(draw, model, name, shape) for name, shape in shapes(model, vocabulary, classes).items()}


def _start(draw: np.random.Generator, model: TextClassifierModel, name: str, shape: tuple[int, ...]) -> Array:
    if name.startswith("rnn"):
        return recurrent.initial(draw, model.cell, name, shape)
    if len(shape) == 1 or name == "output.ngrams":
        return np.zeros(shape, np.float32)
    embeds = name in ("embedding.weight", "affixes.weight")
    limit = model.embedding_range if embeds else math.sqrt(6 / sum(shape))
    return draw.uniform(-limit, limit, shape).astype(np.float32)
