"""The language model in ONNX: tokens [rows, longest] to log-likelihoods of all after the first [rows, longest - 1].

Rows begin without a state, so a longer text must be given whole. Memory grows with rows, length and vocabulary. The
recurrent layers read the last token, too, though nothing is predicted after it: ONNX Runtime ends its process if they
get no token at all, as for rows of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array
from worker.onnx_models.export import properties
from worker.onnx_models.graph import Graph
from worker.onnx_models.recurrent import recurrent
from worker.training.numerics.norms import NORM_EPS


def export(model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> bytes:
    """Return the network of a model with these weights as an ONNX file."""
    graph = Graph("tokens", np.int64, ["longest"])
    predicted = _cut(graph, graph.input, 1, 1, np.iinfo(np.int64).max)
    table = graph.constant("embedding.weight", weights["embedding.weight"])
    x = graph.add("Gather", table, graph.add("Transpose", graph.input, perm=[1, 0]))
    for i, units in enumerate(model.units):
        x = _layer(graph, x, weights, i, units)
        if model.normalization == "layer":
            parts = [graph.constant(f"norm{i}.{part}", weights[f"norm{i}.{part}"]) for part in ("weight", "bias")]
            x = graph.add("LayerNormalization", x, *parts, axis=-1, epsilon=NORM_EPS)
    x = _cut(graph, x, 0, 0, -1)
    matrix = graph.constant("output.weight.T", weights["output.weight"].T)
    logits = graph.add("Add", graph.add("MatMul", x, matrix), graph.constant("output.bias", weights["output.bias"]))
    likelihoods = graph.add("Transpose", graph.add("LogSoftmax", logits, axis=-1), perm=[1, 0, 2])
    last = graph.constant("axis_2", [2], np.int64)
    chosen = graph.add("GatherElements", likelihoods, graph.add("Unsqueeze", predicted, last), axis=2)
    return graph.finish(graph.add("Squeeze", chosen, last), ["predicted"], properties(model, facts))


def _cut(graph: Graph, x: str, axis: int, first: int, end: int) -> str:
    """Return what is from one place of an axis to another."""
    places = [graph.constant(f"place_{place}", [place], np.int64) for place in (first, end, axis)]
    return str(graph.add("Slice", x, *places))


def _layer(graph: Graph, x: str, weights: Mapping[str, Array], i: int, units: int) -> str:
    """Add a layer to x [time, rows, in]; every row is as long as the others."""
    own = {f"rnn{i}.{part}": weights[f"gru{i}.{part}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    return recurrent(graph, x, "", own, cell="gru", units=[units], bidirectional=False, first=i)[0]
