"""The text classifier in ONNX: token ids plus one, 0 at padding, [rows, longest], to probabilities [rows, classes]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array
from worker.onnx_models.export import properties
from worker.onnx_models.graph import Graph, probabilities
from worker.onnx_models.recurrent import Tokens, embedded, recurrent


def export(model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> bytes:
    """Return the network of a model with these weights as an ONNX file."""
    graph = Graph("tokens", np.int32, ["longest"])
    tokens = Tokens.of(graph, graph.input, graph.input)
    x, last = recurrent(
        graph,
        embedded(graph, tokens.tokens, weights),
        tokens.lengths,
        weights,
        cell=model.cell,
        units=model.units,
        bidirectional=model.bidirectional,
        activation=model.activation,
    )
    x = last if last is not None and model.pooling == "last" else _pooled(graph, x, tokens, model.pooling, weights)
    for i in range(len(model.dense)):
        x = graph.add("Relu", graph.linear(x, f"dense{i}", weights))
    found = probabilities(graph, graph.linear(x, "output", weights), sigmoid=model.output == "sigmoid")
    return graph.finish(found, [len(facts["classes"])], properties(model, facts))


def _pooled(graph: Graph, x: str, tokens: Tokens, pooling: str, weights: Mapping[str, Array]) -> str:
    """Return one vector for each row: [time, rows, width] to [rows, width]."""
    if pooling == "max":
        return str(graph.add("ReduceMax", _filled(graph, x, tokens, -np.inf), axes=[0], keepdims=0))
    if pooling == "mean":
        return str(graph.add("Div", _sum(graph, _filled(graph, x, tokens, 0.0)), _lengths(graph, tokens)))
    scores = _filled(graph, _scores(graph, x, weights), tokens, -np.inf)
    return _sum(graph, graph.add("Mul", x, graph.add("Softmax", scores, axis=0)))


def _scores(graph: Graph, x: str, weights: Mapping[str, Array]) -> str:
    """Return the scores of attention, [time, rows, 1]."""
    matrix, context = (
        graph.constant(f"{name}.T", weights[name].T) for name in ("attention.weight", "attention.context")
    )
    bias = graph.constant("attention.bias", weights["attention.bias"])
    hidden = graph.add("Tanh", graph.add("Add", graph.add("MatMul", x, matrix), bias))
    return str(graph.add("MatMul", hidden, context))


def _filled(graph: Graph, x: str, tokens: Tokens, value: float) -> str:
    return str(graph.add("Where", tokens.here, x, graph.constant(f"fill_{value}", value)))


def _sum(graph: Graph, x: str) -> str:
    return str(graph.add("ReduceSum", x, graph.constant("axis_0", [0], np.int64), keepdims=0))


def _lengths(graph: Graph, tokens: Tokens) -> str:
    """Return the number of tokens, float32 [rows, 1]."""
    return graph.shaped(graph.cast(tokens.lengths, np.float32), [-1, 1])
