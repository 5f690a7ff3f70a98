"""The text classifier in TensorFlow: one graph per step for batches of any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from nightshift.families.learner import Array, LearnerSetup
from worker.families.text_classifier.batches import Texts
from worker.families.text_classifier.learner_base import TextClassifierLearner
from worker.families.text_classifier.ngrams import SCALE
from worker.families.text_classifier.weights import initial
from worker.training.backends import tensorflow_support as support
from worker.training.backends.tensorflow_base import TensorflowLearner
from worker.training.backends.tensorflow_recurrent import recurrent
from worker.training.gang import Rows
from worker.training.numerics.recurrent import directions, parts
from worker.training.words.affixes import AFFIXES
from worker.training.words.encoder import NO_AFFIX

Tensor = Any


class Read(NamedTuple):
    """What the network reads of `Texts`."""

    tokens: Tensor
    affixes: Tensor
    ngrams: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, batch: Texts) -> Read:
        """Return the arrays of a batch."""
        return cls(batch.tokens, batch.affixes, batch.ngrams, batch.lengths)


class TensorflowTextClassifier(TextClassifierLearner, TensorflowLearner):
    """A classifier of text in TensorFlow; the twin of `TorchTextClassifier`."""

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.computed = support.computed(self.device, self.training.precision)
        self._begin(initial(self.model, self.vocabulary, self.classes, self.training.seed))
        tokens, rows = tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None], tf.int64)
        affixes = tf.TensorSpec([None, None, len(AFFIXES) if self.model.affixes else 0], tf.int64)
        read = Read(tokens, affixes, tf.TensorSpec([None, None, self.model.ngrams], tf.int64), rows)
        masks = [tf.TensorSpec([None, width], tf.bool) for width in self._dropped_widths()]
        self._train = self._graph_of_step(read, rows, tf.TensorSpec([], tf.float32), masks)
        self._evaluate = support.compiled(self._evaluate_batch, [read, rows])
        self._predict = support.compiled(self._predict_batch, [read])

    # -- the step ---------------------------------------------------------------------------------

    def _arguments(self, rows: Rows, step: int) -> tuple[Any, ...]:
        batch, y = self._batch(rows, step)
        return Read.of(batch), y, np.float32(self.rate), self._masks(step, len(y))

    def _step(self, read: Read, y: Tensor, rate: Tensor, masks: list[Tensor]) -> None:
        trained = list(self._trained().values())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained)
            logits = self._forward(read, self.computed, masks)
            loss = self._loss(logits, y, self.model.label_smoothing)
        self._learn("", loss, tape.gradient(loss, trained), rate)
        n = tf.cast(tf.size(y), tf.float64)
        self._add(tf.stack([tf.cast(loss, tf.float64) * n, self._correct(logits, y), n]))

    # -- the network ------------------------------------------------------------------------------

    def _forward(self, read: Read, computed: Any, masks: list[Tensor] | None = None) -> Tensor:
        """Return float32 logits. `masks` are dropout's; none: evaluation."""
        left = iter(masks or [])
        x = self._dropout(self._embedded(read.tokens, read.affixes), next(left, None))
        x, last = self._recurrent(x, read.lengths, computed, left)
        x = self._pool(x, last, read.lengths, computed)
        for i in range(len(self.model.dense)):
            x = self._dropout(tf.nn.relu(self._linear(x, f"dense{i}", tf.float32)), next(left, None))
        logits = self._linear(x, "output", tf.float32)
        return logits + self._of_ngrams(read.ngrams, read.lengths) if self.model.ngrams else logits

    def _of_ngrams(self, ngrams: Tensor, lengths: Tensor) -> Tensor:
        """Return what the n-grams of each text add to its logits, [batch, logits]."""
        here = tf.transpose(support.within(lengths, ngrams))[..., None]
        found = tf.reduce_sum(tf.gather(self.tensors["output.ngrams"], ngrams), 2)
        return tf.reduce_sum(tf.where(here, found, 0.0), 0) * (SCALE / tf.sqrt(tf.cast(lengths, tf.float32)))[:, None]

    def _embedded(self, tokens: Tensor, affixes: Tensor) -> Tensor:
        """Return the embeddings of the tokens [time, batch, width], each the sum of its word's and its affixes'."""
        words = tf.gather(self.tensors["embedding.weight"], tokens)
        if not self.model.affixes:
            return words
        found = tf.reduce_sum(tf.gather(self.tensors["affixes.weight"], tf.maximum(affixes, 0)), 2)
        return words + tf.where(affixes[..., :1] == NO_AFFIX, 0.0, found)

    def _recurrent(self, x: Tensor, lengths: Tensor, computed: Any, masks: Any) -> tuple[Tensor, Tensor]:
        """Return the outputs of the last recurrent layer (none: x) and the states after the last token."""
        last, model = None, self.model
        for i in range(len(model.units)):
            found = []
            for way, prefix in enumerate(directions(i, bidirectional=model.bidirectional)):
                weights = [self.tensors[prefix + part] for part in parts(model.cell)]
                how: Any = {"cell": model.cell, "activation": model.activation, "reverse": way == 1}
                found.append(recurrent(x, lengths, weights, computed=computed, device=self.device, **how))
            outputs, states = zip(*found, strict=True)
            mask = next(masks, None)
            x, last = (self._dropout(tf.concat(each, -1), mask) for each in (outputs, states))
        return x, last

    def _pool(self, x: Tensor, last: Tensor, lengths: Tensor, computed: Any) -> Tensor:
        """Return one vector per text, [batch, width]."""
        here = tf.transpose(support.within(lengths, x))[..., None]
        match self.model.pooling:
            case "last":
                return last
            case "mean":
                return tf.reduce_sum(tf.where(here, x, 0.0), 0) / tf.cast(lengths, tf.float32)[:, None]
            case "max":
                return tf.reduce_max(tf.where(here, x, -np.inf), 0)
            case "attention":
                hidden = tf.tanh(self._linear(x, "attention", computed))
                scores = tf.matmul(
                    tf.cast(hidden, computed), tf.cast(self.tensors["attention.context"], computed), transpose_b=True
                )
                scores = tf.where(here, tf.cast(scores, tf.float32), -np.inf)
                return tf.reduce_sum(x * tf.nn.softmax(scores, 0), 0)

    def _linear(self, x: Tensor, name: str, computed: Any) -> Tensor:
        weight = tf.cast(self.tensors[f"{name}.weight"], computed)
        flat = tf.reshape(tf.cast(x, computed), [-1, x.shape[-1]])
        product = tf.cast(tf.matmul(flat, weight, transpose_b=True), tf.float32) + self.tensors[f"{name}.bias"]
        return tf.reshape(product, tf.concat([tf.shape(x)[:-1], [weight.shape[0]]], 0))

    def _dropout(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return x if mask is None else tf.where(mask, 0.0, x * (1 / (1 - self.model.dropout)))

    def _loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        if self.model.output == "sigmoid":
            wanted = (1 - smoothing) * tf.cast(y, tf.float32) + smoothing / 2
            return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits[:, 0]))
        found = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        if smoothing:
            found = (1 - smoothing) * found - smoothing * tf.reduce_mean(tf.nn.log_softmax(logits), 1)
        return tf.reduce_mean(found)

    def _correct(self, logits: Tensor, y: Tensor) -> Tensor:
        chosen = tf.cast(logits[:, 0] > 0, tf.int64) if self.model.output == "sigmoid" else tf.argmax(logits, 1)
        return tf.reduce_sum(tf.cast(chosen == y, tf.float64))

    # -- evaluation -------------------------------------------------------------------------------

    def _totals_of(self, batch: Texts, y: Array) -> Tensor:
        with tf.device(self.device):
            return self._evaluate(Read.of(batch), np.asarray(y, np.int64))

    def _evaluate_batch(self, read: Read, y: Tensor) -> Tensor:
        logits = self._forward(read, self.computed)
        total = tf.cast(self._loss(logits, y), tf.float64) * tf.cast(tf.size(y), tf.float64)
        return tf.stack([total, self._correct(logits, y)])

    def _probabilities(self, batch: Texts) -> Callable[[], Array]:
        with tf.device(self.device):
            fetch: Callable[[], Array] = self._predict(Read.of(batch)).numpy
        return fetch

    def _predict_batch(self, read: Read) -> Tensor:
        logits = self._forward(read, tf.float32)
        if self.model.output == "sigmoid":
            second = tf.sigmoid(logits)
            return tf.concat([1 - second, second], 1)
        return tf.nn.softmax(logits)


build = TensorflowTextClassifier
