"""Recurrent layers in ONNX: `worker.training.numerics.recurrent` says what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nightshift.families.learner import Array
from worker.onnx_models.graph import Graph
from worker.training.numerics.recurrent import GATES, Activation, Cell, directions

_OPERATORS: dict[Cell, str] = {"simple_rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
#: For each of ONNX's gates, in its order, the place of ours: GRU z r h of r z n, LSTM i o f c of i f g o.
_PLACES: dict[Cell, tuple[int, ...]] = {"simple_rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


@dataclass(frozen=True)
class Tokens:
    """Rows of tokens, cut to the longest of them."""

    #: As they were given, [rows, time, …].
    tokens: str
    #: Number of tokens of each row, int32 [rows].
    lengths: str
    #: Where there is a token, bool [time, rows, 1].
    here: str

    @classmethod
    def of(cls, graph: Graph, tokens: str, marks: str) -> Tokens:
        """Cut tokens [rows, longest, …]. `marks` [rows, longest] are above 0 where there is a token."""
        here = graph.add("Greater", marks, graph.constant("padding", 0, np.int32))
        time_axis = graph.constant("axis_1", [1], np.int64)
        lengths = graph.add("ReduceSum", graph.cast(here, np.int32), time_axis, keepdims=0)
        longest = graph.cast(graph.add("ReduceMax", lengths, axes=[0], keepdims=1), np.int64)
        start = graph.constant("start", [0], np.int64)
        tokens, here = (graph.add("Slice", x, start, longest, time_axis) for x in (tokens, here))
        here = graph.add("Transpose", here, perm=[1, 0])
        here = graph.add("Unsqueeze", here, graph.constant("axis_2", [2], np.int64))
        return cls(tokens, lengths, here)


def recurrent(
    graph: Graph,
    x: str,
    lengths: str,
    weights: Mapping[str, Array],
    *,
    cell: Cell,
    units: Sequence[int],
    bidirectional: bool,
    activation: Activation = "tanh",
    first: int = 0,
) -> tuple[str, str | None]:
    """Add stacked layers to x [time, rows, in]; return outputs [time, rows, w], 0 at padding, and states [rows, w].

    `lengths` may be empty if all rows are as long as x; `first` is the number of the first layer. The states are those
    after each row's last token, of the reverse direction after its first; None without layers.
    """
    last: str | None = None
    for i, width in enumerate(units, first):
        prefixes = directions(i, bidirectional=bidirectional)
        parts = [
            graph.constant(f"rnn{i}.{name}", np.stack([_part(weights, prefix, cell, name) for prefix in prefixes]))
            for name in ("W", "R", "B")
        ]
        outputs, states = graph.add(
            _OPERATORS[cell],
            x,
            *parts,
            lengths,
            outputs=2,
            hidden_size=width,
            direction="bidirectional" if bidirectional else "forward",
            activations=_activations(cell, activation) * len(prefixes),
            **({"linear_before_reset": 1} if cell == "gru" else {}),
        )
        both = len(prefixes) * width
        x = graph.shaped(graph.add("Transpose", outputs, perm=[0, 2, 1, 3]), [0, 0, both])
        last = graph.shaped(graph.add("Transpose", states, perm=[1, 0, 2]), [0, both])
    return x, last


def _activations(cell: Cell, activation: Activation) -> list[str]:
    own = {"tanh": "Tanh", "relu": "Relu"}[activation]
    return {"simple_rnn": [own], "gru": ["Sigmoid", own], "lstm": ["Sigmoid", own, own]}[cell]


def _part(weights: Mapping[str, Array], prefix: str, cell: Cell, name: str) -> Array:
    """Return a weight of one direction as ONNX has it: W [g h, in], R [g h, h], B [2 g h]."""
    if name in "WR":
        return _ordered(weights[f"{prefix}weight_{'ih' if name == 'W' else 'hh'}"], cell)
    biases = weights[f"{prefix}bias_ih"], weights.get(f"{prefix}bias_hh", np.zeros_like(weights[f"{prefix}bias_ih"]))
    return np.concatenate([_ordered(bias, cell) for bias in biases])


def _ordered(array: Array, cell: Cell) -> Array:
    gates = array.reshape(GATES[cell], -1, *array.shape[1:])
    ordered: Array = gates[list(_PLACES[cell])].reshape(array.shape)
    return ordered


def embedded(graph: Graph, tokens: str, weights: Mapping[str, Array]) -> str:
    """Return the embeddings [time, rows, width] of token ids plus one [rows, time], where 0 is padding."""
    ids = graph.add("Sub", tokens, graph.constant("one_more", 1, np.int32))
    ids = graph.add("Max", ids, graph.constant("padding", 0, np.int32))
    table = graph.constant("embedding.weight", weights["embedding.weight"])
    return str(graph.add("Gather", table, graph.add("Transpose", ids, perm=[1, 0])))


def feature(graph: Graph, tokens: str, place: int) -> str:
    """Return one feature of tokens [rows, time, features]: [rows, time]."""
    return str(graph.add("Gather", tokens, graph.constant(f"feature_{place}", place, np.int64), axis=2))
