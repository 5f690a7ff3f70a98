"""Recurrent layers in TensorFlow; the twin of `torch_recurrent.py`.

On a GPU, tanh cells are cuDNN's. All others have hand-written gradients (`tensorflow_cells`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from worker.training.backends import tensorflow_cells as cells
from worker.training.backends import tensorflow_support as support
from worker.training.numerics.recurrent import Activation, Cell

Tensor = Any
_CELLS = {"simple_rnn": cells.simple_rnn, "lstm": cells.lstm, "gru": cells.gru}
#: cuDNN's names of the cells.
_MODES = {"simple_rnn": "rnn_tanh", "lstm": "lstm", "gru": "gru"}


def recurrent(
    x: Tensor,
    lengths: Tensor,
    weights: Sequence[Tensor],
    *,
    cell: Cell,
    activation: Activation = "tanh",
    reverse: bool = False,
    computed: Any,
    device: str,
) -> tuple[Tensor, Tensor]:
    """Return the outputs [time, batch, h] of one direction, 0 at padding, and each row's state after its last token.

    x is [time, batch, in] and the weights are those of `parts(cell)`, all float32; products are computed in `computed`.
    lengths [batch] are int64, each 1 or more, in any order. States begin at 0. With `reverse` each row is read from its
    last token to its first, and the state [batch, h] is the one after its first token.
    """
    start = tf.zeros([tf.shape(x)[1], weights[1].shape[1]])
    tokens = tf.transpose(support.within(lengths, x, tf.float32))[..., None]
    weights = [tf.convert_to_tensor(weight) for weight in weights]
    read = _reversed(x, lengths) if reverse else x
    if activation == "tanh" and not support.on_host(device):
        outputs = _of_cudnn(cell, read, start, weights, computed) * tokens  # a tanh cell has finite values at padding
    else:
        outputs = _CELLS[cell](read, start, weights, tokens, relu=activation == "relu", computed=computed)
    last = tf.gather_nd(outputs, tf.stack([lengths - 1, tf.range(tf.shape(x, tf.int64)[1])], 1))
    return _reversed(outputs, lengths) if reverse else outputs, last


def gru(inputs: Tensor, state: Tensor, weights: Sequence[Tensor], *, computed: Any, device: str) -> Tensor:
    """Return outputs [time, batch, h] of a tanh GRU for inputs without padding and a first state [batch, h].

    All are float32. No gradient flows into `state`.
    """
    if not support.on_host(device):
        return _of_cudnn("gru", inputs, state, weights, computed)
    return cells.gru(inputs, state, weights, None, relu=False, computed=computed)


def _of_cudnn(cell: Cell, x: Tensor, state: Tensor, weights: Sequence[Tensor], computed: Any) -> Tensor:
    """Return the outputs of cuDNN's layer, also at padding: to tell it the lengths would wait for them."""
    biases = [] if cell == "gru" else [tf.zeros_like(weights[2])]
    # cuDNN reads matrices [g h, in], then biases, with gates in the order that ours have.
    memory = tf.concat([tf.reshape(tf.cast(weight, computed), [-1]) for weight in (*weights, *biases)], 0)
    start = tf.cast(tf.stop_gradient(state), computed)[None]
    found = tf.raw_ops.CudnnRNNV3(
        input=tf.cast(x, computed), input_h=start, input_c=tf.zeros_like(start) if cell == "lstm" else 0,
        params=memory, sequence_lengths=tf.fill([tf.shape(x)[1]], tf.shape(x)[0]), rnn_mode=_MODES[cell],
        time_major=True,
    )  # fmt: skip
    return tf.cast(found[0], tf.float32)


def _reversed(x: Tensor, lengths: Tensor) -> Tensor:
    """Return each row's tokens in reverse; padding stays where it is."""
    return tf.reverse_sequence(x, lengths, seq_axis=0, batch_axis=1)
