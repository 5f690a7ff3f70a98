"""Recurrent layers in TensorFlow; the twin of `torch_recurrent.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from worker.training.backends.tensorflow_cells import gru, lstm, simple_rnn
from worker.training.numerics.recurrent import Activation, Cell

Tensor = Any
_CELLS = {"simple_rnn": simple_rnn, "lstm": lstm, "gru": gru}


def recurrent(
    x: Tensor,
    lengths: Tensor,
    weights: Sequence[Tensor],
    *,
    cell: Cell,
    activation: Activation = "tanh",
    reverse: bool = False,
    computed: Any,
) -> tuple[Tensor, Tensor]:
    """Return the outputs [time, batch, h] of one direction, 0 at padding, and each row's state after its last token.

    x is [time, batch, in] and the weights are those of `parts(cell)`, all float32; products are computed in `computed`.
    lengths [batch] are int64, each 1 or more, in any order. States begin at 0. With `reverse` each row is read from its
    last token to its first, and the state [batch, h] is the one after its first token.
    """
    start = tf.zeros([tf.shape(x)[1], weights[1].shape[1]])
    tokens = tf.transpose(tf.sequence_mask(lengths, tf.shape(x)[0], tf.float32))[..., None]
    weights = [tf.convert_to_tensor(weight) for weight in weights]
    read = _reversed(x, lengths) if reverse else x
    outputs = _CELLS[cell](read, start, weights, tokens, relu=activation == "relu", computed=computed)
    last = tf.gather_nd(outputs, tf.stack([lengths - 1, tf.range(tf.shape(x, tf.int64)[1])], 1))
    return _reversed(outputs, lengths) if reverse else outputs, last


def _reversed(x: Tensor, lengths: Tensor) -> Tensor:
    """Return each row's tokens in reverse; padding stays where it is."""
    return tf.reverse_sequence(x, lengths, seq_axis=0, batch_axis=1)
