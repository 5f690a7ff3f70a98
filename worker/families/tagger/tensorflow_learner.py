"""The tagger in TensorFlow: one graph per step for batches of any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from nightshift.families.learner import Array, LearnerSetup
from worker.families.tagger.learner_base import Batch, TaggerLearner
from worker.families.tagger.weights import initial
from worker.training.backends import tensorflow_support as support
from worker.training.backends.tensorflow_base import TensorflowLearner
from worker.training.backends.tensorflow_recurrent import recurrent
from worker.training.gang import Rows
from worker.training.numerics.recurrent import directions, parts

Tensor = Any


class TensorflowTagger(TaggerLearner, TensorflowLearner):
    """A tagger in TensorFlow; the twin of `TorchTagger`."""

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.computed = support.computed(self.device, self.training.precision)
        self._begin(initial(self.model, self.vocabulary, len(self.names), self.training.seed))
        tokens, tags = tf.TensorSpec([None, None, self.model.features], tf.int64), tf.TensorSpec([None, None], tf.int64)
        lengths, masks = tf.TensorSpec([None], tf.int64), [self._mask_spec(width) for width in self._dropped_widths()]
        self._train = self._graph_of_step(tokens, tags, lengths, tf.TensorSpec([], tf.float32), masks)
        self._judge = support.compiled(self._judge_batch, [tokens, tags, lengths])
        self._predict = support.compiled(self._predict_batch, [tokens, lengths])

    def _mask_spec(self, width: int) -> Any:
        return tf.TensorSpec([None, width], tf.bool)

    # -- the step ---------------------------------------------------------------------------------

    def _arguments(self, rows: Rows, step: int) -> tuple[Any, ...]:
        batch = self._batch(rows, step)
        return batch.tokens, batch.tags, batch.lengths, np.float32(self.rate), self._masks(step, len(rows))

    def _step(self, tokens: Tensor, tags: Tensor, lengths: Tensor, rate: Tensor, masks: list[Tensor]) -> None:
        trained = list(self._trained().values())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained)
            logits = self._forward(tokens, lengths, self.computed, masks)
            loss, correct, count = self._measured(logits, tags)
        self._learn("", loss, tape.gradient(loss, trained), rate)
        means = tf.stack([tf.cast(loss, tf.float64), correct / count, tf.ones([], tf.float64)])
        self._add(means * tf.cast(tf.size(lengths), tf.float64))

    def _measured(self, logits: Tensor, tags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean loss of the tokens, how many are correct, and how many there are."""
        wanted = tf.reshape(tags, [-1])
        here = tf.cast(wanted >= 0, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(wanted, 0), logits=logits)
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == wanted, tf.float64))
        count = tf.reduce_sum(here)
        return tf.reduce_sum(losses * here) / count, correct, tf.cast(count, tf.float64)

    # -- the network ------------------------------------------------------------------------------

    def _forward(self, tokens: Tensor, lengths: Tensor, computed: Any, masks: list[Tensor] | None = None) -> Tensor:
        """Return float32 logits [time * batch, tags]. `masks` are dropout's; none: evaluation."""
        left = iter(masks or [])
        x = self._dropout(self._read(tokens), next(left, None))
        for i in range(len(self.model.units)):
            found = []
            for way, prefix in enumerate(directions(i, bidirectional=self.model.bidirectional)):
                weights = [self.tensors[prefix + part] for part in parts(self.model.cell)]
                how: Any = {"cell": self.model.cell, "reverse": way == 1}
                found.append(recurrent(x, lengths, weights, computed=computed, device=self.device, **how)[0])
            x = self._dropout(tf.concat(found, -1), next(left, None))
        weight = tf.cast(self.tensors["output.weight"], computed)
        flat = tf.reshape(tf.cast(x, computed), [-1, x.shape[-1]])
        return tf.cast(tf.matmul(flat, weight, transpose_b=True), tf.float32) + self.tensors["output.bias"]

    def _read(self, tokens: Tensor) -> Tensor:
        """Return the embeddings of tokens [time, batch, features]: [time, batch, width]."""
        words = tf.gather(self.tensors["embedding.weight"], tf.maximum(tokens[..., 0] - 1, 0))
        if not self.model.affixes:
            return words
        affixes = tf.gather(self.tensors["affixes.weight"], tokens[..., 1:])
        width = self.model.read_width - self.model.embedding
        return tf.concat([words, tf.reshape(affixes, tf.concat([tf.shape(tokens)[:2], [width]], 0))], -1)

    def _dropout(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return x if mask is None else tf.where(mask, 0.0, x * (1 / (1 - self.model.dropout)))

    # -- evaluation -------------------------------------------------------------------------------

    def _judged(self, batch: Batch) -> tuple[Array, Array]:
        with tf.device(self.device):
            found, sums = self._judge(batch.tokens, batch.tags, batch.lengths)
        return found.numpy().T, sums.numpy()

    def _judge_batch(self, tokens: Tensor, tags: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._forward(tokens, lengths, self.computed)
        loss, correct, count = self._measured(logits, tags)
        sums = tf.stack([tf.cast(loss, tf.float64) * count, correct, count])
        return tf.reshape(tf.argmax(logits, 1), tf.shape(tags)), sums

    def _probabilities(self, batch: Batch) -> Callable[[], Array]:
        with tf.device(self.device):
            found = self._predict(batch.tokens, batch.lengths)
        return lambda: found.numpy().reshape(*batch.tags.shape, -1).swapaxes(0, 1)

    def _predict_batch(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return tf.nn.softmax(self._forward(tokens, lengths, tf.float32))


build = TensorflowTagger
