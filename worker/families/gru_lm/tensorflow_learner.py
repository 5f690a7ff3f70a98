"""The GRU language model in TensorFlow: one graph per step, recurrence and cross-entropy by hand.

Variables have the canonical layout; products are computed in bfloat16 if it is native.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from nightshift.families.learner import Array, LearnerSetup
from worker.families.gru_lm.learner_base import GruLmLearner
from worker.families.gru_lm.tensorflow_cross_entropy import CHUNK_LOGITS, chunked_cross_entropy
from worker.families.gru_lm.weights import initial
from worker.training.backends import tensorflow_support as support
from worker.training.backends.tensorflow_base import TensorflowLearner
from worker.training.backends.tensorflow_recurrent import gru
from worker.training.gang import Rows
from worker.training.numerics.dropout import layer_masks
from worker.training.numerics.norms import NORM_EPS
from worker.training.numerics.perplexity import with_perplexity

Tensor = Any
#: The recurrent state between two pieces of text: one [batch, h] per layer.
State = list[Any]


class TensorflowGruLm(GruLmLearner, TensorflowLearner):
    """A GRU language model in TensorFlow; the twin of `TorchGruLm`."""

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.computed = support.computed(self.device, self.training.precision)
        self._begin(initial(self.model, self.vocabulary, self.training.seed))
        tokens, scalar = tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([], tf.float32)
        states = [tf.TensorSpec([None, units], tf.float32) for units in self.model.units]
        masks = [tf.TensorSpec([None, None, units], tf.bool) for units in self._dropout_units()]
        self._train = self._graph_of_step(tokens, tokens, scalar, masks)
        self._evaluate = support.compiled(self._evaluate_batch, [tokens, tokens])
        self._follow = support.compiled(self._likelihoods, [tokens, tokens, states])
        self._read = support.compiled(self._next_logits, [tokens, states])

    # -- the step ---------------------------------------------------------------------------------

    def _arguments(self, rows: Rows, step: int) -> tuple[Any, ...]:
        read, targets = map(_tokens, self._read_and_predicted(rows, step))
        shapes = [(*targets.shape, units) for units in self._dropout_units()]
        masks = layer_masks(self.training.seed, step, shapes, self.model.dropout)
        return read, targets, np.float32(self.rate), masks

    def _step(self, read: Tensor, targets: Tensor, rate: Tensor, masks: list[Tensor]) -> None:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(self._trained().values()))
            hidden, _ = self._hidden(read, None, self.computed, masks)
            wanted = tf.reshape(targets, [-1])
            how = {"computed": self.computed, "device": self.device}
            loss, hits = chunked_cross_entropy(_flat(hidden), *self._output(), wanted, **how)
        self._learn("", loss, tape.gradient(loss, list(self._trained().values())), rate)
        n = tf.cast(tf.size(wanted), tf.float64)
        self._add(tf.stack([tf.cast(loss, tf.float64) * n, tf.cast(hits, tf.float64), n]))

    # -- the network ------------------------------------------------------------------------------

    def _hidden(
        self, tokens: Tensor, state: State | None, computed: Any, masks: list[Tensor] | None = None
    ) -> tuple[Tensor, State]:
        """Return [time, batch, h] after the last layer, float32, and the state. `masks`: dropout's masks."""
        w = self.tensors
        x = tf.gather(w["embedding.weight"], tokens)
        after: State = []
        for i, units in enumerate(self.model.units):
            before = tf.zeros([tf.shape(tokens)[1], units]) if state is None else state[i]
            parts = [tf.convert_to_tensor(w[f"gru{i}.{part}"]) for part in _GRU_PARTS]
            x = gru(x, before, parts, computed=computed, device=self.device)
            after.append(x[-1])
            x = self._layer_norm(x, i)
            if masks:
                x = tf.where(masks[i], 0.0, x * (1 / (1 - self.model.dropout)))
        return x, after

    def _layer_norm(self, x: Tensor, i: int) -> Tensor:
        if self.model.normalization == "none":
            return x
        mean, var = tf.nn.moments(x, [-1], keepdims=True)
        scale, bias = self.tensors[f"norm{i}.weight"], self.tensors[f"norm{i}.bias"]
        return (x - mean) * tf.math.rsqrt(var + NORM_EPS) * scale + bias

    def _output(self) -> tuple[Tensor, Tensor]:
        return tf.convert_to_tensor(self.tensors["output.weight"]), tf.convert_to_tensor(self.tensors["output.bias"])

    def _dropout_units(self) -> list[int]:
        """Return the units of the layers with dropout."""
        return list(self.model.units) if self.model.dropout else []

    # -- evaluation -------------------------------------------------------------------------------

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        windows = split["windows"]
        with tf.device(self.device):
            totals = tf.zeros(2, tf.float64)
            for start in range(0, len(windows), batch_size):
                batch = windows[start : start + batch_size]
                totals += self._evaluate(_tokens(batch[:, :-1]), _tokens(batch[:, 1:]))
        total, correct = (totals.numpy() / (len(windows) * (windows.shape[1] - 1))).tolist()
        return {**with_perplexity(-total), "accuracy": correct}

    def _evaluate_batch(self, read: Tensor, targets: Tensor) -> Tensor:
        likelihoods, hits = self._scores(self._hidden(read, None, self.computed)[0], targets, self.computed)
        return tf.stack([tf.reduce_sum(tf.cast(likelihoods, tf.float64)), tf.reduce_sum(tf.cast(hits, tf.float64))])

    def follow(self, windows: Array, state: State | None) -> tuple[Array, State]:
        with tf.device(self.device):
            likelihoods, state = self._follow(
                _tokens(windows[:, :-1]), _tokens(windows[:, 1:]), self._initial_state(state, len(windows))
            )
        return np.ascontiguousarray(likelihoods.numpy().T), state

    def read(self, tokens: Array, state: State | None) -> tuple[Array, State]:
        """Return logits [n, vocabulary] float32 of the token after `tokens` [n, t], and the new state."""
        with tf.device(self.device):
            logits, state = self._read(_tokens(tokens), self._initial_state(state, len(tokens)))
        return support.to_numpy(logits), state

    def _initial_state(self, state: State | None, n: int) -> State:
        return [tf.zeros([n, units]) for units in self.model.units] if state is None else state

    def _likelihoods(self, read: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, state = self._hidden(read, state, tf.float32)
        return self._scores(hidden, targets, tf.float32)[0], state

    def _next_logits(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, state = self._hidden(tokens, state, tf.float32)
        weight, bias = self._output()
        return tf.matmul(hidden[-1], weight, transpose_b=True) + bias, state

    def _scores(self, hidden: Tensor, targets: Tensor, computed: Any) -> tuple[Tensor, Tensor]:
        """Return each target's log-likelihood (float32) and whether it was most likely, both [time, batch]."""
        flat, wanted = tf.cast(_flat(hidden), computed), tf.reshape(targets, [-1])
        weight, bias = (tf.cast(part, computed) for part in self._output())
        size, n = max(1, CHUNK_LOGITS // self.vocabulary), tf.shape(flat)[0]

        def chunk(at: Tensor, likelihoods: Any, hits: Any) -> tuple[Any, ...]:
            logits = tf.cast(tf.matmul(flat[at : at + size], weight, transpose_b=True) + bias, tf.float32)
            chosen = tf.gather(logits, wanted[at : at + size], batch_dims=1)
            likelihoods = likelihoods.write(at // size, chosen - tf.reduce_logsumexp(logits, 1))
            return at + size, likelihoods, hits.write(at // size, chosen >= tf.reduce_max(logits, 1))

        count = (n + size - 1) // size
        pieces = [
            tf.TensorArray(kind, count, element_shape=[None], infer_shape=False) for kind in (tf.float32, tf.bool)
        ]
        _, likelihoods, hits = tf.while_loop(lambda at, *_: at < n, chunk, (0, *pieces))
        shape = tf.shape(targets)
        return tf.reshape(likelihoods.concat(), shape), tf.reshape(hits.concat(), shape)


_GRU_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _tokens(tokens: Array) -> Array:
    """Transpose [batch, time] of any integer type to int64 [time, batch]."""
    return np.ascontiguousarray(tokens.T, np.int64)


def _flat(x: Tensor) -> Tensor:
    return tf.reshape(x, [-1, x.shape[-1]])


build = TensorflowGruLm
