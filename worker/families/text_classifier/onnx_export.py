"""The text classifier in ONNX: token ids plus one, 0 at padding, [rows, longest], to probabilities [rows, classes]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array
from worker.families.text_classifier.ngrams import BUCKETS, FACTOR, SCALE
from worker.onnx_models.export import properties
from worker.onnx_models.graph import Graph, probabilities
from worker.onnx_models.recurrent import Tokens, embedded, feature, recurrent
from worker.training.words.affixes import AFFIXES


def export(model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> bytes:
    """Return the network of a model with these weights as an ONNX file."""
    graph = Graph("tokens", np.int32, ["longest", 1 + len(AFFIXES)] if model.affixes else ["longest"])
    tokens = Tokens.of(graph, graph.input, feature(graph, graph.input, 0) if model.affixes else graph.input)
    x, last = recurrent(
        graph,
        _read(graph, tokens.tokens, model, weights),
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
    logits = graph.linear(x, "output", weights)
    if model.ngrams:
        logits = graph.add("Add", logits, _of_ngrams(graph, tokens, model, weights))
    found = probabilities(graph, logits, sigmoid=model.output == "sigmoid")
    return graph.finish(found, [len(facts["classes"])], properties(model, facts))


def _read(graph: Graph, tokens: str, model: Any, weights: Mapping[str, Array]) -> str:
    """Return the embeddings of tokens, each the sum of its word's and its affixes', if it has any."""
    if not model.affixes:
        return embedded(graph, tokens, weights)
    words = embedded(graph, feature(graph, tokens, 0), weights)
    others = graph.constant("affix_features", np.arange(1, 1 + len(AFFIXES)), np.int64)
    rows = graph.add("Transpose", graph.add("Gather", tokens, others, axis=2), perm=[1, 0, 2])
    places = graph.add("Max", rows, graph.constant("first_row", 0, np.int32))
    found = graph.add("Gather", graph.constant("affixes.weight", weights["affixes.weight"]), places)
    has_any = graph.add("Equal", rows, places)  # all or none
    each = graph.add(
        "Where",
        graph.add("Unsqueeze", has_any, graph.constant("axis_3", [3], np.int64)),
        found,
        graph.constant("no_affix", 0.0),
    )
    summed = graph.add("ReduceSum", each, graph.constant("axis_2_alone", [2], np.int64), keepdims=0)
    return str(graph.add("Add", words, summed))


def _of_ngrams(graph: Graph, tokens: Tokens, model: Any, weights: Mapping[str, Array]) -> str:
    """Return what the n-grams of each text add to its logits, [rows, logits]; see `ngrams`."""
    values = graph.cast(feature(graph, tokens.tokens, 0) if model.affixes else tokens.tokens, np.int64)
    table, buckets = (
        graph.constant("output.ngrams", weights["output.ngrams"]),
        graph.constant("buckets", BUCKETS, np.int64),
    )
    found, hashed = [], ""
    for place in range(model.ngrams):
        hashed = graph.add("Mod", _after(graph, hashed, values) if hashed else values, buckets)
        rows = graph.add("Add", hashed, graph.constant(f"row_{place}", place * BUCKETS, np.int64))
        found.append(graph.add("Transpose", graph.add("Gather", table, rows), perm=[1, 0, 2]))
    summed = _sum(graph, _filled(graph, graph.add("Sum", *found), tokens, 0.0))
    scale = graph.add("Div", graph.constant("ngram_scale", SCALE), graph.add("Sqrt", _lengths(graph, tokens)))
    return str(graph.add("Mul", summed, scale))


def _after(graph: Graph, hashed: str, values: str) -> str:
    """Return tokens [rows, time] joined to the n-grams that end at the token before each."""
    moved = graph.add("Pad", hashed, graph.constant("one_before", [0, 1, 0, 0], np.int64))
    start, end, time = (graph.constant(f"axis_{at}", [at], np.int64) for at in (0, -1, 1))
    moved = graph.add("Slice", moved, start, end, time)
    return str(graph.add("Add", graph.add("Mul", moved, graph.constant("factor", FACTOR, np.int64)), values))


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
