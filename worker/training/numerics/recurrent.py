"""Recurrent layers without a framework: their weights, initial values, and the shape of right-padded batches.

Layer i has, for each direction (`rnn{i}.` forward, `rnn{i}.reverse.` from the last token to the first):

weight_ih [g h, in]      weight_hh [g h, h]      bias_ih [g h]      bias_hh [g h] (gru only)

simple_rnn (g = 1)   h' = act(W_i x + b_i + W_h h)
lstm (g = 4)         i, f, o = sigmoid(...), g = act(...) in the order i, f, g, o (as in torch and Keras)
                     c' = f c + i g        h' = o act(c')        (Hochreiter & Schmidhuber 1997)
gru (g = 3)          in the order r, z, n (as in torch), with two biases (the "reset after" form, as in Keras):
                     r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)         z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
                     n = act(W_in x + b_in + r * (W_hn h + b_hn))       h' = n + z * (h - n)       (Cho et al. 2014)

Activations are tanh or relu; gates are always sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array

Cell = Literal["simple_rnn", "lstm", "gru"]
Activation = Literal["tanh", "relu"]

#: Matrices [h, in] and [h, h] of a cell.
GATES: dict[Cell, int] = {"simple_rnn": 1, "lstm": 4, "gru": 3}
#: The place of the LSTM's forget gate.
_FORGET = 1


def parts(cell: Cell) -> tuple[str, ...]:
    """Return the names of the weights of one direction, in the order that the layers of both frameworks take them."""
    return ("weight_ih", "weight_hh", "bias_ih", *(("bias_hh",) if cell == "gru" else ()))


def directions(layer: int, *, bidirectional: bool) -> tuple[str, ...]:
    """Return the prefixes of the weights of a layer: of the forward direction, and of the reverse one if there is."""
    return (f"rnn{layer}.", *((f"rnn{layer}.reverse.",) if bidirectional else ()))


def shapes(cell: Cell, inputs: int, units: Sequence[int], *, bidirectional: bool) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight of stacked layers, in the order of the network."""
    found: dict[str, tuple[int, ...]] = {}
    for i, width in enumerate(units):
        rows = GATES[cell] * width
        own = {"weight_ih": (rows, inputs), "weight_hh": (rows, width), "bias_ih": (rows,), "bias_hh": (rows,)}
        for prefix in directions(i, bidirectional=bidirectional):
            found |= {prefix + part: own[part] for part in parts(cell)}
        inputs = width * (2 if bidirectional else 1)
    return found


def initial(draw: np.random.Generator, cell: Cell, name: str, shape: tuple[int, ...]) -> Array:
    """Return the initial value of a weight of `shapes`, as Keras has it.

    Glorot uniform inputs over all gates, orthogonal recurrences (Saxe et al. 2014), zero biases; 1 for the forget gate.
    """
    if len(shape) == 1:
        bias = np.zeros(shape, np.float32)
        if cell == "lstm":
            bias.reshape(GATES[cell], -1)[_FORGET] = 1
        return bias
    if name.endswith("weight_hh"):
        return _orthogonal(draw, *shape)
    limit = math.sqrt(6 / sum(shape))
    return draw.uniform(-limit, limit, shape).astype(np.float32)


def _orthogonal(draw: np.random.Generator, rows: int, columns: int) -> Array:
    """Return a matrix with more rows than columns, or as many, whose columns are orthonormal."""
    q, r = np.linalg.qr(draw.standard_normal((rows, columns)))
    return (q * np.where(np.diagonal(r) < 0, -1.0, 1.0)).astype(np.float32)


# -- batches --------------------------------------------------------------------------------------


def longest_first(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows in the order that `RightPadded` needs: by length, the longest first."""
    return np.argsort(-lengths, kind="stable").astype(np.int64, copy=False)


@dataclass(frozen=True)
class RightPadded:
    """The lengths of the rows of a batch [time, batch], whose tokens stand at its beginning.

    Rows are sorted by length, the longest first (`longest_first`), so that at each step the rows that still have a
    token are the first ones. Every row has a token.
    """

    lengths: npt.NDArray[np.int64]
    time: int

    def __post_init__(self) -> None:
        if len(self.lengths) == 0 or self.lengths[-1] < 1 or self.lengths[0] > self.time:
            raise ValueError(f"lengths must be from 1 to {self.time}, in a batch of one row or more")
        if (np.diff(self.lengths) > 0).any():
            raise ValueError("rows must be sorted by length, the longest first")

    @property
    def full(self) -> bool:
        """Return whether there is no padding."""
        return bool(self.lengths[-1] == self.time)

    @cached_property
    def sizes(self) -> list[int]:
        """Return the number of rows that have a token, at each step."""
        counted: list[int] = (self.lengths[:, None] > np.arange(self.time)).sum(axis=0).tolist()
        return counted

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Return where there is a token, [time, batch]."""
        found: npt.NDArray[np.bool_] = np.arange(self.time)[:, None] < self.lengths
        return found

    @property
    def reversal(self) -> npt.NDArray[np.int64]:
        """Return the places, in the flattened batch [time * batch], of the same rows with their tokens reversed.

        Padding stays where it is. It is its own inverse.
        """
        steps, rows = np.arange(self.time)[:, None], np.arange(len(self.lengths))
        source = np.where(steps < self.lengths, self.lengths - 1 - steps, steps)
        return (source * len(self.lengths) + rows).reshape(-1)

    @property
    def last(self) -> npt.NDArray[np.int64]:
        """Return the place of each row's last token in the flattened batch, [batch]."""
        places: npt.NDArray[np.int64] = (self.lengths - 1) * len(self.lengths) + np.arange(len(self.lengths))
        return places
