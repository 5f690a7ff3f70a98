"""The tagger in ONNX: tokens [rows, longest, features] to probabilities of tags [rows, longest, tags], 0 at padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array
from worker.onnx_models.export import properties
from worker.onnx_models.graph import Graph
from worker.onnx_models.recurrent import Tokens, embedded, feature, recurrent


def export(model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> bytes:
    """Return the network of a model with these weights as an ONNX file."""
    graph = Graph("tokens", np.int32, ["longest", model.features])
    tokens = Tokens.of(graph, graph.input, feature(graph, graph.input, 0))
    x, _ = recurrent(
        graph,
        _read(graph, tokens.tokens, model, weights),
        tokens.lengths,
        weights,
        cell=model.cell,
        units=model.units,
        bidirectional=model.bidirectional,
    )
    matrix = graph.constant("output.weight.T", weights["output.weight"].T)
    logits = graph.add("Add", graph.add("MatMul", x, matrix), graph.constant("output.bias", weights["output.bias"]))
    found = graph.add("Where", tokens.here, graph.add("Softmax", logits, axis=-1), graph.constant("nothing", 0.0))
    found = _as_long(graph, graph.add("Transpose", found, perm=[1, 0, 2]))
    return graph.finish(found, ["longest", len(facts["tags"])], properties(model, facts))


def _read(graph: Graph, tokens: str, model: Any, weights: Mapping[str, Array]) -> str:
    """Return the embeddings of words and affixes: [rows, time, features] to [time, rows, width]."""
    words = embedded(graph, feature(graph, tokens, 0), weights)
    if not model.affixes:
        return words
    others = graph.constant("affix_features", np.arange(1, model.features), np.int64)
    places = graph.add("Transpose", graph.add("Gather", tokens, others, axis=2), perm=[1, 0, 2])
    affixes = graph.add("Gather", graph.constant("affixes.weight", weights["affixes.weight"]), places)
    flat = graph.shaped(affixes, [0, 0, (model.features - 1) * model.affixes])
    return str(graph.add("Concat", words, flat, axis=2))


def _as_long(graph: Graph, found: str) -> str:
    """Return the rows with zeros at their ends, as long as those of the input."""
    axis = graph.constant("axis_1_alone", 1, np.int64)
    wanted, computed = (graph.add("Gather", graph.add("Shape", x), axis) for x in (graph.input, found))
    missing = graph.shaped(graph.add("Sub", wanted, computed), [1])
    none = graph.constant("none", [0], np.int64)
    pads = graph.add("Concat", none, none, none, none, missing, none, axis=0)
    return str(graph.add("Pad", found, pads))
