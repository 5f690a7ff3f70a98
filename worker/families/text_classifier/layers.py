"""The layers of a text classifier, for its summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nightshift.families.layers import Layer
from worker.families.text_classifier.family import TextClassifierModel
from worker.families.text_classifier.weights import shapes

_POOLING = {
    "last": "state after the last token",
    "mean": "mean over the tokens",
    "max": "maximum over the tokens",
    "attention": "attention over the tokens",
}


def layers(model: TextClassifierModel, facts: Mapping[str, Any]) -> list[Layer]:
    """Return the layers in the order of the network; a text has any number of tokens."""
    sizes: dict[str, int] = {}
    for name, shape in shapes(model, int(facts["vocabulary"]), len(facts["classes"])).items():
        layer = name.partition(".")[0]
        sizes[layer] = sizes.get(layer, 0) + math.prod(shape)
    ways = 2 if model.bidirectional else 1
    kind = f"{'bidirectional ' if model.bidirectional else ''}{model.cell}, {model.activation}"
    recurrent = [Layer(f"rnn{i}", kind, (None, units * ways), sizes[f"rnn{i}"]) for i, units in enumerate(model.units)]
    dense = [Layer(f"dense{i}", "dense, relu", (units,), sizes[f"dense{i}"]) for i, units in enumerate(model.dense)]
    logits = 1 if model.output == "sigmoid" else len(facts["classes"])
    pooling = "attention" if model.pooling == "attention" else "pooling"
    words = (None, model.embedding)
    then = f", with weights of n-grams of up to {model.ngrams} tokens" if model.ngrams else ""
    affixes = [Layer("affixes", "embeddings of affixes, added", words, sizes["affixes"])] if model.affixes else []
    return [
        Layer("embedding", "embedding", words, sizes["embedding"]),
        *affixes,
        *recurrent,
        Layer(pooling, _POOLING[model.pooling], (model.width,), sizes.get(pooling, 0)),
        *dense,
        Layer("output", f"dense{then}, {model.output}", (logits,), sizes["output"]),
    ]
