"""Recurrence and cross-entropy in TensorFlow with hand-written gradients; the twin of `torch_gru.py`.

Products are computed in `computed` (bfloat16 if native), everything between them in float32. Time steps and chunks of
positions are graph loops: tracing takes a fraction of a second for any window length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

#: Logits computed at once (numbers). Too low: weights are fetched too often. Too high: logits leave the cache.
CHUNK_LOGITS = 16_000_000

Tensor = Any
#: Numbers from 0 on are in the order of their bits, whose largest is found in a third of the time in bfloat16.
_BITS = {tf.bfloat16: tf.int16, tf.float32: tf.int32}


def gru(
    inputs: Tensor,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    *,
    computed: Any,
) -> Tensor:
    """Return outputs [time, batch, h] for inputs [time, batch, in] and a first state [batch, h].

    All are float32. No gradient flows into `state`.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Any]:
        kept, gates, n, states = _forward(x, state, w_ih, w_hh, b_ih, b_hh, computed)

        def grad(d_out: Tensor) -> tuple[Tensor, ...]:
            return _backward(d_out, x, w_ih, w_hh, kept, gates, n, states, computed)

        return states[1:], grad

    return differentiable(inputs, weight_ih, weight_hh, bias_ih, bias_hh)


def _forward(x: Tensor, state: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, computed: Any) -> Any:
    time, batch, h = tf.shape(x)[0], tf.shape(x)[1], w_hh.shape[1]
    read = tf.reshape(_product(_flat(x), w_ih, computed, transpose_b=True) + b_ih, [time, batch, 3 * h])
    reads = tf.TensorArray(tf.float32, time).unstack(read)
    w_t = tf.transpose(tf.cast(w_hh, computed))

    def step(t: Tensor, before: Tensor, kept: Any, gates: Any, new: Any, states: Any) -> tuple[Any, ...]:
        k = _product(before, w_t, computed) + b_hh
        a = reads.read(t)
        g = tf.sigmoid(a[:, : 2 * h] + k[:, : 2 * h])
        n = tf.tanh(a[:, 2 * h :] + g[:, :h] * k[:, 2 * h :])
        after = n + g[:, h:] * (before - n)
        return t + 1, after, kept.write(t, k[:, 2 * h :]), gates.write(t, g), new.write(t, n), states.write(t, after)

    arrays = [tf.TensorArray(tf.float32, time, element_shape=[None, width]) for width in (h, 2 * h, h, h)]
    _, _, *arrays = tf.while_loop(lambda t, *_: t < time, step, (0, state, *arrays))
    kept, gates, n, states = (array.stack() for array in arrays)
    return kept, gates, n, tf.concat([state[None], states], 0)


def _backward(
    d_out: Tensor,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    kept: Tensor,
    gates: Tensor,
    n: Tensor,
    states: Tensor,
    computed: Any,
) -> tuple[Tensor, ...]:
    time, h = tf.shape(x)[0], w_hh.shape[1]
    r, z = gates[..., :h], gates[..., h:]
    d_n = (1 - z) * (1 - n * n)
    slope_n = d_n * r
    slope_r, slope_z = slope_n * (1 - r) * kept, (states[:-1] - n) * z * (1 - z)
    slopes = tf.TensorArray(tf.float32, time).unstack(tf.stack([slope_r, slope_z, slope_n], 2))
    outs = tf.TensorArray(tf.float32, time).unstack(d_out)
    zs = tf.TensorArray(tf.float32, time).unstack(z)
    w = tf.cast(w_hh, computed)

    def step(t: Tensor, d_next: Tensor, d_kept: Any, d_states: Any) -> tuple[Any, ...]:
        d_state = outs.read(t) + d_next
        d_k = tf.reshape(d_state[:, None] * slopes.read(t), [-1, 3 * h])
        d_before = d_state * zs.read(t) + _product(d_k, w, computed)
        return t - 1, d_before, d_kept.write(t, d_k), d_states.write(t, d_state)

    arrays = [tf.TensorArray(tf.float32, time, element_shape=[None, width]) for width in (3 * h, h)]
    _, _, *arrays = tf.while_loop(lambda t, *_: t >= 0, step, (time - 1, tf.zeros_like(n[0]), *arrays))
    d_kept, d_states = (array.stack() for array in arrays)
    flat = _flat(d_kept)
    d_w_hh = _product(flat, _flat(states[:-1]), computed, transpose_a=True)
    d_read = tf.concat([flat[:, : 2 * h], _flat(d_states * d_n)], 1)
    d_w_ih = _product(d_read, _flat(x), computed, transpose_a=True)
    d_x = tf.reshape(_product(d_read, w_ih, computed), tf.shape(x))
    return d_x, d_w_ih, d_w_hh, tf.reduce_sum(d_read, 0), tf.reduce_sum(flat, 0)


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, computed: Any
) -> tuple[Tensor, Tensor]:
    """Return the mean of -log softmax(hidden @ weight.T + bias)[target], and how many targets were the most likely.

    The gradients are computed with the mean. hidden [n, h], weight [v, h] and bias [v] are float32; targets int64 [n].
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Any, Callable[[Tensor, Tensor], Any]]:
        loss, hits, d_hidden, d_weight, d_bias = _cross_entropy(hidden, weight, bias, targets, computed)

        def grad(d_loss: Tensor, _: Tensor) -> tuple[Tensor, ...]:
            return d_hidden * d_loss, d_weight * d_loss, d_bias * d_loss

        return (loss, hits), grad

    loss, hits = differentiable(hidden, weight, bias)
    return loss, hits


def _cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, computed: Any) -> tuple[Tensor, ...]:
    n, vocabulary = tf.shape(hidden)[0], weight.shape[0]
    size = max(1, CHUNK_LOGITS // vocabulary)
    bits = _BITS[tf.as_dtype(computed)]
    w, b, x = tf.cast(weight, computed), tf.cast(bias, computed), tf.cast(hidden, computed)

    def step(start: Tensor, loss: Tensor, hits: Tensor, d_hidden: Any, *sums: Tensor) -> tuple[Any, ...]:
        d_weight, d_bias = sums
        part, wanted = x[start : start + size], targets[start : start + size]
        p = tf.nn.softmax(tf.nn.bias_add(tf.matmul(part, w, transpose_b=True), b))
        hit = tf.gather(p, wanted, batch_dims=1)
        largest = tf.reduce_max(tf.bitcast(p, bits), 1)
        hits += tf.math.count_nonzero(tf.bitcast(hit, bits) >= largest, dtype=tf.int32)
        loss -= tf.reduce_sum(tf.math.log(tf.maximum(tf.cast(hit, tf.float32), 1e-38)))
        d_hidden = d_hidden.write(start // size, tf.matmul(p, w))
        d_weight += tf.cast(tf.matmul(p, part, transpose_a=True), tf.float32)
        d_bias += tf.cast(tf.matmul(tf.ones_like(p[:, :1]), p, transpose_a=True)[0], tf.float32)
        return start + size, loss, hits, d_hidden, d_weight, d_bias

    pieces = tf.TensorArray(computed, (n + size - 1) // size, element_shape=[None, x.shape[1]], infer_shape=False)
    start = (0, tf.zeros([]), 0, pieces, tf.zeros_like(weight), tf.zeros_like(bias))
    _, loss, hits, pieces, d_weight, d_bias = tf.while_loop(lambda start, *_: start < n, step, start)
    # The gradient by the logits is p, minus 1 at the target. That part is small and needs no pass over p.
    d_hidden = tf.cast(pieces.concat(), tf.float32) - tf.gather(weight, targets)
    d_weight -= tf.math.unsorted_segment_sum(hidden, targets, vocabulary)
    d_bias -= tf.math.unsorted_segment_sum(tf.ones_like(hidden[:, 0]), targets, vocabulary)
    scale = 1 / tf.cast(n, tf.float32)
    return loss * scale, hits, d_hidden * scale, d_weight * scale, d_bias * scale


def _product(a: Tensor, b: Tensor, computed: Any, **how: bool) -> Tensor:
    return tf.cast(tf.matmul(tf.cast(a, computed), tf.cast(b, computed), **how), tf.float32)


def _flat(x: Tensor) -> Tensor:
    return tf.reshape(x, [-1, x.shape[-1]])
