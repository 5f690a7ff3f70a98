"""Recurrences in TensorFlow with hand-written gradients; the twin of `torch_cells.py`.

Products are computed in `computed` (bfloat16 if native), everything between them in float32. Time steps are graph
loops: tracing takes a fraction of a second for any length.

Each takes x [time, batch, in], a first state [batch, h], the cell's weights, where there is a token [time, batch, 1] as
0 or 1, and whether the activation is relu; all are float32. It returns outputs [time, batch, h], 0 at padding. No
gradient flows into the first state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Tensor = Any
Tensors = tuple[Tensor, ...]


def simple_rnn(
    inputs: Tensor, state: Tensor, weights: Sequence[Tensor], tokens: Tensor, *, relu: bool, computed: Any
) -> Tensor:
    """Return the outputs of the recurrence of Elman (1990)."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor) -> tuple[Tensor, Any]:
        h, w_t = w_hh.shape[1], tf.transpose(tf.cast(w_hh, computed))

        def step(before: Tensors, read: Tensor, token: Tensor) -> tuple[Tensors, Tensors]:
            after = _activated(read + product(before[0], w_t, computed), relu) * token
            return (after,), (after,)

        (outputs,) = _scan(step, (state,), (_read(x, w_ih, b_ih, computed), tokens), (h,))

        def grad(d_out: Tensor) -> Tensors:
            w = tf.cast(w_hh, computed)

            def back(d_next: Tensors, d: Tensor, slope: Tensor) -> tuple[Tensors, Tensors]:
                d_read = (d + d_next[0]) * slope
                return (product(d_read, w, computed),), (d_read,)

            slopes = _slope(outputs, relu) * tokens
            (d_read,) = _scan(back, (tf.zeros_like(state),), (d_out, slopes), (h,), backward=True)
            d_x, d_w_ih, d_b = _input_gradients(d_read, x, w_ih, computed)
            return d_x, d_w_ih, _recurrent_gradient(d_read, state, outputs, computed), d_b

        return outputs, grad

    return differentiable(inputs, *weights)


def lstm(
    inputs: Tensor, state: Tensor, weights: Sequence[Tensor], tokens: Tensor, *, relu: bool, computed: Any
) -> Tensor:
    """Return the outputs of an LSTM (Hochreiter & Schmidhuber 1997)."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor) -> tuple[Tensor, Any]:
        h, w_t = w_hh.shape[1], tf.transpose(tf.cast(w_hh, computed))

        def step(before: Tensors, read: Tensor, token: Tensor) -> tuple[Tensors, Tensors]:
            sums = read + product(before[0], w_t, computed)
            both, o = tf.sigmoid(sums[:, : 2 * h]), tf.sigmoid(sums[:, 3 * h :])
            g = _activated(sums[:, 2 * h : 3 * h], relu)
            cell = (both[:, h:] * before[1] + both[:, :h] * g) * token
            after = o * _activated(cell, relu)
            return (after * token, cell), (after * token, cell, both, g, o)

        sequences = (_read(x, w_ih, b_ih, computed), tokens)
        start = (state, tf.zeros_like(state))
        outputs, cells, both, g, o = _scan(step, start, sequences, (h, h, 2 * h, h, h))

        def grad(d_out: Tensor) -> Tensors:
            slopes = _lstm_slopes(cells, both, g, o, relu)
            d_gates = _lstm_backward(d_out * tokens, slopes, both[..., h:], tf.cast(w_hh, computed), state, computed)
            d_x, d_w_ih, d_b = _input_gradients(d_gates, x, w_ih, computed)
            return d_x, d_w_ih, _recurrent_gradient(d_gates, state, outputs, computed), d_b

        return outputs, grad

    return differentiable(inputs, *weights)


def _lstm_slopes(cells: Tensor, both: Tensor, g: Tensor, o: Tensor, relu: bool) -> Tensors:
    """Return the derivatives that the backward loop needs, for all time steps at once.

    They are those of the new cell by i, f, g before their activations [t, b, 3, h], of the new state by o before its
    sigmoid, and of the new state by the new cell, both [t, b, h].
    """
    i, f = tf.split(both, 2, -1)
    before, shown = tf.concat([tf.zeros_like(cells[:1]), cells[:-1]], 0), _activated(cells, relu)
    by_cell = tf.stack([i * (1 - i) * g, f * (1 - f) * before, _slope(g, relu) * i], 2)
    return by_cell, o * (1 - o) * shown, o * _slope(shown, relu)


def _lstm_backward(d_out: Tensor, slopes: Tensors, f: Tensor, w: Tensor, state: Tensor, computed: Any) -> Tensor:
    """Return the gradient by the sums before the gates, [time, batch, 4h]. At padding both gradients carried are 0."""
    h = f.shape[-1]

    def back(
        d_next: Tensors, d_out: Tensor, of_cell: Tensor, of_state: Tensor, to_cell: Tensor, kept: Tensor
    ) -> tuple[Tensors, Tensors]:
        d = d_out + d_next[0]
        d_cell = d_next[1] + d * to_cell
        d_gates = tf.concat([tf.reshape(d_cell[:, None] * of_cell, [-1, 3 * h]), d * of_state], 1)
        return (product(d_gates, w, computed), d_cell * kept), (d_gates,)

    start = (tf.zeros_like(state), tf.zeros_like(state))
    (d_gates,) = _scan(back, start, (d_out, *slopes, f), (4 * h,), backward=True)
    return d_gates


def gru(
    inputs: Tensor, state: Tensor, weights: Sequence[Tensor], tokens: Tensor | None, *, relu: bool, computed: Any
) -> Tensor:
    """Return the outputs of a GRU (Cho et al. 2014) in the "reset after" form. `tokens` None: there is no padding."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Any]:
        h, w_t = w_hh.shape[1], tf.transpose(tf.cast(w_hh, computed))

        def step(before: Tensors, a: Tensor, *token: Tensor) -> tuple[Tensors, Tensors]:
            k = product(before[0], w_t, computed) + b_hh
            rz = tf.sigmoid(a[:, : 2 * h] + k[:, : 2 * h])
            n = _activated(a[:, 2 * h :] + rz[:, :h] * k[:, 2 * h :], relu)
            after = n + rz[:, h:] * (before[0] - n)
            after = after * token[0] if token else after
            return (after,), (k[:, 2 * h :], rz, n, after)

        sequences = (_read(x, w_ih, b_ih, computed), *(() if tokens is None else (tokens,)))
        kept, rz, n, outputs = _scan(step, (state,), sequences, (h, 2 * h, h, h))

        def grad(d_out: Tensor) -> Tensors:
            d_out = d_out if tokens is None else d_out * tokens
            states = tf.concat([state[None], outputs], 0)
            d_n, slopes = _gru_slopes(kept, rz, n, states, relu)
            d_kept, d_states = _gru_backward(d_out, slopes, rz[..., h:], tf.cast(w_hh, computed), state, computed)
            d_read = tf.concat([d_kept[..., : 2 * h], d_states * d_n], -1)
            d_x, d_w_ih, d_b_ih = _input_gradients(d_read, x, w_ih, computed)
            d_w_hh = _recurrent_gradient(d_kept, state, outputs, computed)
            return d_x, d_w_ih, d_w_hh, d_b_ih, tf.reduce_sum(flat(d_kept), 0)

        return outputs, grad

    return differentiable(inputs, *weights)


def _gru_slopes(kept: Tensor, rz: Tensor, n: Tensor, states: Tensor, relu: bool) -> Tensors:
    """Return the derivatives that the backward loop needs, for all time steps at once.

    They are those of the new state by n before its activation [t, b, h], and by the recurrent product's r, z, n parts
    [t, b, 3, h].
    """
    r, z = tf.split(rz, 2, -1)
    d_n = (1 - z) * _slope(n, relu)
    slope_n = d_n * r
    slope_r, slope_z = slope_n * (1 - r) * kept, (states[:-1] - n) * z * (1 - z)
    return d_n, tf.stack([slope_r, slope_z, slope_n], 2)


def _gru_backward(d_out: Tensor, slopes: Tensor, z: Tensor, w: Tensor, state: Tensor, computed: Any) -> list[Tensor]:
    """Return the gradients by the recurrent product [time, batch, 3h] and by each state [time, batch, h].

    At padding the gradient carried is 0.
    """
    h = z.shape[-1]

    def back(d_next: Tensors, d_out: Tensor, slope: Tensor, z: Tensor) -> tuple[Tensors, Tensors]:
        d_state = d_out + d_next[0]
        d_k = tf.reshape(d_state[:, None] * slope, [-1, 3 * h])
        return (d_state * z + product(d_k, w, computed),), (d_k, d_state)

    return _scan(back, (tf.zeros_like(state),), (d_out, slopes, z), (3 * h, h), backward=True)


# -- shared by all --------------------------------------------------------------------------------


def _scan(
    step: Callable[..., tuple[Tensors, Tensors]],
    carried: Tensors,
    sequences: Tensors,
    widths: Sequence[int],
    *,
    backward: bool = False,
) -> list[Tensor]:
    """Run `step` on the elements of sequences [time, …], and return what it wrote: [time, batch, width] each.

    `step(carried, *elements)` returns what it carries to the next step, and what it writes.
    """
    time, kept = tf.shape(sequences[0])[0], len(carried)
    read = [tf.TensorArray(tf.float32, time).unstack(one) for one in sequences]

    def body(at: Tensor, *state: Any) -> Tensors:
        t = time - 1 - at if backward else at
        after, written = step(state[:kept], *(one.read(t) for one in read))
        arrays = (array.write(t, one) for array, one in zip(state[kept:], written, strict=True))
        return (at + 1, *after, *arrays)

    arrays = [tf.TensorArray(tf.float32, time, element_shape=[None, width]) for width in widths]
    _, *found = tf.while_loop(lambda at, *_: at < time, body, (0, *carried, *arrays))
    return [array.stack() for array in found[kept:]]


def _read(x: Tensor, w_ih: Tensor, b_ih: Tensor, computed: Any) -> Tensor:
    """Return the input's part of the sums before the gates, for all time steps: [time, batch, g h]."""
    shape = tf.shape(x)
    return tf.reshape(product(flat(x), w_ih, computed, transpose_b=True) + b_ih, [shape[0], shape[1], w_ih.shape[0]])


def _input_gradients(d_read: Tensor, x: Tensor, w_ih: Tensor, computed: Any) -> Tensors:
    """Return the gradients by x, its weight and its bias."""
    d = flat(d_read)
    d_x = tf.reshape(product(d, w_ih, computed), tf.shape(x))
    return d_x, product(d, flat(x), computed, transpose_a=True), tf.reduce_sum(d, 0)


def _recurrent_gradient(d_sums: Tensor, state: Tensor, outputs: Tensor, computed: Any) -> Tensor:
    before = tf.concat([state[None], outputs[:-1]], 0)
    return product(flat(d_sums), flat(before), computed, transpose_a=True)


def _activated(x: Tensor, relu: bool) -> Tensor:
    return tf.nn.relu(x) if relu else tf.tanh(x)


def _slope(activated: Tensor, relu: bool) -> Tensor:
    """Return the derivative of the activation, from its result."""
    return tf.cast(activated > 0, tf.float32) if relu else 1 - activated * activated


def product(a: Tensor, b: Tensor, computed: Any, **how: bool) -> Tensor:
    """Return the product of matrices in float32, computed in `computed`."""
    return tf.cast(tf.matmul(tf.cast(a, computed), tf.cast(b, computed), **how), tf.float32)


def flat(x: Tensor) -> Tensor:
    """Return [time, batch, width] as [time * batch, width]."""
    return tf.reshape(x, [-1, x.shape[-1]])
