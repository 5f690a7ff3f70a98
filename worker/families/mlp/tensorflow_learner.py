"""The perceptron in TensorFlow: the table lies on the device, and several steps run in one call of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from nightshift.families.learner import Array, LearnerSetup, LearnerState
from worker.families.mlp.learner_base import MlpLearner, measured
from worker.families.mlp.weights import initial
from worker.training.backends import tensorflow_support as support
from worker.training.backends.tensorflow_base import TensorflowLearner
from worker.training.gang import Rows

Tensor = Any

#: Most steps run in one call, and most bytes of dropout masks they may hold. Too low: calls cost as much as small
#: steps. Too high: memory, and progress in jerks.
PENDING_STEPS, PENDING_BYTES = 32, 2_000_000


class TensorflowMlp(MlpLearner, TensorflowLearner):
    """A perceptron in TensorFlow; the twin of `TorchMlp`."""

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.MEASURED = measured(setup.facts)  # type: ignore[misc]
        self.computed = tf.bfloat16 if self.training.precision == "bfloat16" else tf.float32
        self._begin(initial(self.model, setup.facts, self.training.seed))
        self.layers = [f"dense{i}" for i in range(len(self.model.hidden))]
        self.data: dict[str, Any] = {}
        self.pending: list[Any] = []
        self.is_warm = False
        self.width = int(self.tensors[f"{[*self.layers, 'output'][0]}.weight"].shape[0])
        self._infer = support.compiled(self._outputs, [tf.TensorSpec([None, self.width], tf.float32)])

    @cached_property
    def _train(self) -> Any:
        """Return the graph of the training steps, traced at the first step: evaluation never needs it."""
        units = self.model.hidden if self.model.dropout else ()
        labels = tf.int64 if self.task == "classes" else tf.float32
        table = [tf.TensorSpec([None, self.width], tf.float32), tf.TensorSpec([None], labels)]
        if self.gang:
            masks = [tf.TensorSpec([None, width], tf.bool) for width in units]
            return self._graph_of_step(*table, tf.TensorSpec([], tf.float32), masks)
        rows, rates = tf.TensorSpec([None, None], tf.int64), tf.TensorSpec([None], tf.float32)
        masks = [tf.TensorSpec([None, None, width], tf.bool) for width in units]
        return support.compiled(self._steps, [*table, rows, rates, masks]).get_concrete_function()

    # -- the step ---------------------------------------------------------------------------------

    def set_data(self, split: Mapping[str, Array]) -> None:
        """Set the table, which lies on the device. A gang's is on the host: each device gets its rows of it."""
        self._flush()
        self.data = {"x": split["x"], "y": self._learned(split)}
        if not self.gang:
            with tf.device(self.device):
                self.data = {name: tf.constant(array) for name, array in self.data.items()}

    def train_step(self, rows: Rows, step: int) -> None:
        """Queue one step and run the queue when it is long enough. A gang runs each step at once.

        Every method that reads state flushes the queue first.
        """
        if self.gang:
            return super().train_step(rows, step)
        self.rate = self.rate_at(step)
        masks = self._masks(len(rows), step)
        if self.pending and len(self.pending[0][0]) != len(rows):
            self._flush()
        self.pending.append((rows, np.float32(self.rate), masks))
        size = sum(mask.nbytes for mask in masks)
        if not self.is_warm or len(self.pending) >= min(PENDING_STEPS, PENDING_BYTES // max(size, 1)):
            self._flush()
            self.is_warm = True

    def _arguments(self, rows: Rows, step: int) -> tuple[Any, ...]:
        masks = self._masks(len(rows), step)
        return np.asarray(self.data["x"][rows]), self.data["y"][rows], np.float32(self.rate), masks

    def _flush(self) -> None:
        """Run the queued steps."""
        if self.pending:
            with tf.device(self.device):
                queued = tf.nest.map_structure(lambda *parts: tf.constant(np.stack(parts)), *self.pending)
                self._train(self.data["x"], self.data["y"], *queued)
            self.pending.clear()

    def _steps(self, x: Tensor, y: Tensor, rows: Tensor, rates: Tensor, masks: list[Tensor]) -> None:
        """Run the steps on rows [steps, n], one after the other."""

        def one(i: Tensor) -> list[Tensor]:
            self._step(tf.gather(x, rows[i]), tf.gather(y, rows[i]), rates[i], [mask[i] for mask in masks])
            return [i + 1]

        tf.while_loop(lambda i: i < tf.shape(rows)[0], one, [0])

    def _step(self, x: Tensor, y: Tensor, rate: Tensor, masks: list[Tensor]) -> None:
        learned = list(self._trained().values())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(learned)
            outputs = self._forward(x, self.computed, masks)
            loss = self._loss(outputs, y)
        self._learn("", loss, tape.gradient(loss, learned), rate)
        n = tf.cast(tf.size(y), tf.float64)
        hits = [tf.reduce_sum(tf.cast(tf.argmax(outputs, 1) == y, tf.float64))] if self.task == "classes" else []
        self._add(tf.stack([tf.cast(loss, tf.float64) * n, *hits, n]))

    def _loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        if self.loss == "cross_entropy":
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=outputs))
        error = outputs[:, 0] - y
        return tf.reduce_mean(tf.square(error) if self.loss == "mean_squared_error" else tf.abs(error))

    def _take_totals(self) -> list[float]:
        self._flush()
        return super()._take_totals()

    # -- the network ------------------------------------------------------------------------------

    def _forward(self, x: Tensor, dtype: Any, masks: list[Tensor] | None = None) -> Tensor:
        """Return float32 outputs [n, outputs]."""
        for i, name in enumerate(self.layers):
            x = self._activated(self._dense(x, name, dtype))
            if masks:
                x = tf.where(masks[i], tf.zeros([], dtype), x / (1 - self.model.dropout))
        return self._dense(x, "output", tf.float32)

    def _dense(self, x: Tensor, name: str, dtype: Any) -> Tensor:
        product = tf.matmul(tf.cast(x, dtype), tf.cast(self.tensors[f"{name}.weight"], dtype))
        return tf.nn.bias_add(product, tf.cast(self.tensors[f"{name}.bias"], dtype))

    def _activated(self, x: Tensor) -> Tensor:
        activation = {"relu": tf.nn.relu, "sigmoid": tf.sigmoid, "tanh": tf.tanh, "linear": tf.identity}
        return activation[self.model.activation](x)

    # -- evaluation -------------------------------------------------------------------------------

    def outputs(self, inputs: Array, batch_size: int) -> Array:
        self._flush()
        width = int(self.tensors["output.bias"].shape[0])
        return np.concatenate([np.empty((0, width), np.float32), *self._in_batches(self._infer, inputs, batch_size)])

    def _outputs(self, x: Tensor) -> Tensor:
        return self._forward(x, tf.float32)

    # -- state ------------------------------------------------------------------------------------

    def state(self) -> LearnerState:
        self._flush()
        return super().state()

    def load_state(self, state: LearnerState) -> None:
        self.pending.clear()
        super().load_state(state)

    def weights(self) -> dict[str, Array]:
        self._flush()
        return super().weights()

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        self._flush()
        super().load_weights(weights)

    def _own(self, name: str, array: Array) -> Array:
        return np.ascontiguousarray(array.T)

    def _canonical(self, name: str, array: Array) -> Array:
        return np.ascontiguousarray(array.T)


build = TensorflowMlp
