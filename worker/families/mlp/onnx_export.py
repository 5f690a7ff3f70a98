"""The perceptron in ONNX: encoded columns [rows, inputs] to probabilities [rows, classes], or numbers [rows]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array
from worker.families.mlp.encoding import Encoding
from worker.families.mlp.targets import Scale
from worker.onnx_models.export import properties
from worker.onnx_models.graph import Graph, probabilities

_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "linear": "Identity"}


def export(model: Any, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> bytes:
    """Return the network of a model with these weights as an ONNX file."""
    graph = Graph("columns", np.float32, [Encoding.of(facts).width])
    x = graph.input
    for i in range(len(model.hidden)):
        x = graph.add(_ACTIVATIONS[model.activation], graph.linear(x, f"dense{i}", weights))
    x = graph.linear(x, "output", weights)
    about = {**properties(model, facts), "target": str(model.target)}
    if facts["preprocessing"]["task"] == "classes":
        return graph.finish(probabilities(graph, x, sigmoid=False), [len(facts["classes"])], about)
    return graph.finish(_numbers(graph, x, Scale.of(facts)), [], about)


def _numbers(graph: Graph, x: str, scale: Scale) -> str:
    """Return outputs [rows, 1] in the units of the table, [rows]; in float64, as learners compute them."""
    factor, mean = (
        graph.constant(name, value, np.float64) for name, value in (("std", scale.std), ("mean", scale.mean))
    )
    x = graph.cast(graph.shaped(x, [-1]), np.float64)
    return graph.cast(graph.add("Add", graph.add("Mul", x, factor), mean), np.float32)
