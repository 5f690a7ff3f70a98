"""Cross-entropy in TensorFlow with a hand-written gradient; the twin of `torch_cross_entropy.py`.

Products are computed in `computed` (bfloat16 if native). Chunks of positions are a graph loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from worker.training.backends import tensorflow_support as support

#: Logits computed at once (numbers). Too low: weights are fetched too often. Too high: logits leave the cache.
CHUNK_LOGITS = 16_000_000

Tensor = Any
#: Numbers from 0 on are in the order of their bits, whose largest is found in a third of the time in bfloat16 on a CPU.
#: TensorFlow compares them there in any case, so on a GPU they would be copied.
_BITS = {tf.bfloat16: tf.int16, tf.float32: tf.int32}


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, computed: Any, device: str
) -> tuple[Tensor, Tensor]:
    """Return the mean of -log softmax(hidden @ weight.T + bias)[target], and how many targets were the most likely.

    The gradients are computed with the mean. hidden [n, h], weight [v, h] and bias [v] are float32; targets int64 [n].
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def differentiable(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Any, Callable[[Tensor, Tensor], Any]]:
        loss, hits, d_hidden, d_weight, d_bias = _cross_entropy(hidden, weight, bias, targets, computed, device)

        def grad(d_loss: Tensor, _: Tensor) -> tuple[Tensor, ...]:
            return d_hidden * d_loss, d_weight * d_loss, d_bias * d_loss

        return (loss, hits), grad

    loss, hits = differentiable(hidden, weight, bias)
    return loss, hits


def _cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, computed: Any, device: str
) -> tuple[Tensor, ...]:
    n, vocabulary = tf.shape(hidden)[0], weight.shape[0]
    size = max(1, CHUNK_LOGITS // vocabulary)
    kind = _BITS[tf.as_dtype(computed)] if support.on_host(device) else computed
    w, b, x = tf.cast(weight, computed), tf.cast(bias, computed), tf.cast(hidden, computed)

    def step(start: Tensor, loss: Tensor, hits: Tensor, d_hidden: Any, *sums: Tensor) -> tuple[Any, ...]:
        d_weight, d_bias = sums
        part, wanted = x[start : start + size], targets[start : start + size]
        p = tf.nn.softmax(tf.nn.bias_add(tf.matmul(part, w, transpose_b=True), b))
        hit = tf.gather(p, wanted, batch_dims=1)
        largest = tf.reduce_max(tf.bitcast(p, kind), 1)
        hits += tf.math.count_nonzero(tf.bitcast(hit, kind) >= largest)
        loss -= tf.reduce_sum(tf.math.log(tf.maximum(tf.cast(hit, tf.float32), 1e-38)))
        d_hidden = d_hidden.write(start // size, tf.matmul(p, w))
        d_weight += tf.cast(tf.matmul(p, part, transpose_a=True), tf.float32)
        d_bias += tf.cast(tf.matmul(tf.ones_like(p[:, :1]), p, transpose_a=True)[0], tf.float32)
        return start + size, loss, hits, d_hidden, d_weight, d_bias

    pieces = tf.TensorArray(computed, (n + size - 1) // size, element_shape=[None, x.shape[1]], infer_shape=False)
    start = (0, tf.zeros([]), tf.zeros([], tf.int64), pieces, tf.zeros_like(weight), tf.zeros_like(bias))
    _, loss, hits, pieces, d_weight, d_bias = tf.while_loop(lambda start, *_: start < n, step, start)
    # The gradient by the logits is p, minus 1 at the target. That part is small and needs no pass over p.
    d_hidden = tf.cast(pieces.concat(), tf.float32) - tf.gather(weight, targets)
    d_weight -= tf.math.unsorted_segment_sum(hidden, targets, vocabulary)
    d_bias -= tf.math.unsorted_segment_sum(tf.ones_like(hidden[:, 0]), targets, vocabulary)
    scale = 1 / tf.cast(n, tf.float32)
    return loss * scale, hits, d_hidden * scale, d_weight * scale, d_bias * scale
