"""The CNN in TensorFlow: one graph per step, variables in TensorFlow's layout, native bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from nightshift.families.learner import Array, LearnerSetup
from worker.families.cnn.family import CnnModel
from worker.families.cnn.tensorflow_pixels import augmentation_specs, augmentations, augmented, pixels
from worker.families.cnn.weights import initial, is_kernel, outputs
from worker.training.backends import tensorflow_support as support
from worker.training.backends.tensorflow_base import Running, TensorflowLearner
from worker.training.gang import Rows
from worker.training.numerics import layout
from worker.training.numerics.dropout import layer_masks
from worker.training.numerics.norms import NORM_EPS

Tensor = Any

_ACTIVATIONS = {"relu": tf.nn.relu, "sigmoid": tf.sigmoid, "tanh": tf.tanh}

#: Most steps run in one call, and most bytes of images they may hold. Too low: calls cost as much as small steps.
#: Too high: memory, and progress in jerks.
PENDING_STEPS, PENDING_BYTES = 16, 2_000_000


class TensorflowCnn(TensorflowLearner):
    """A CNN classifier in TensorFlow; the twin of `TorchCnn`.

    The `facts` of its setup: `classes` (names), optionally `frozen` (prefixes of fixed weights).
    """

    model: CnnModel
    MEASURED = ("loss", "accuracy")

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.computed = support.computed(self.device, self.training.precision)
        self.activation = _ACTIVATIONS[self.model.activation]
        self.classes = len(setup.facts["classes"])
        self._begin(initial(self.model, self.classes, self.training.seed))
        self.data: dict[str, Array] = {}
        self.pending: list[Any] = []
        self.warm = False
        pixels, labels = self._batch_specs()
        self._evaluate = support.compiled(self._evaluate_batch, [pixels, labels])
        self._predict = support.compiled(self._probabilities, [pixels])
        self._embed = support.compiled(self._embed_batch, [pixels])

    def _batch_specs(self) -> tuple[Any, Any]:
        """Return the specs of a batch of pixels and labels."""
        return tf.TensorSpec([None, *self._image()], tf.uint8), tf.TensorSpec([None], tf.int64)

    @cached_property
    def _train(self) -> Any:
        """Return the graph of the training steps.

        It is traced at the first step, because tracing takes a second and evaluation and prediction never need it.
        """
        masks = [tf.TensorSpec([None, units], tf.bool) for units in self._dropout_units()]
        drawn = {
            name: tf.TensorSpec([None, *shape], dtype)
            for name, (shape, dtype) in augmentation_specs(self.training.augment).items()
        }
        one = (*self._batch_specs(), tf.TensorSpec([], tf.float32), masks, drawn)
        if self.gang:
            return self._graph_of_step(*one)
        several = tf.nest.map_structure(lambda spec: tf.TensorSpec([None, *spec.shape], spec.dtype), one)
        return support.compiled(self._steps, several).get_concrete_function()

    # -- the step ---------------------------------------------------------------------------------

    def set_data(self, split: Mapping[str, Array]) -> None:
        self.data = {"x": split["x"], "y": split["y"]}

    def train_step(self, rows: Rows, step: int) -> None:
        """Queue one step and run the queue when it is long enough. A gang runs each step at once.

        Several steps on small batches run in one call, because the call costs as much as a small step. Every method
        that reads state flushes the queue first.
        """
        if self.gang:
            return super().train_step(rows, step)
        self.rate = self.rate_at(step)
        batch = self._arguments(rows, step)
        if self.pending and len(self.pending[0][1]) != len(rows):
            self._flush()
        self.pending.append(batch)
        if not self.warm or len(self.pending) >= min(PENDING_STEPS, PENDING_BYTES // batch[0].nbytes):
            self._flush()
            self.warm = True

    def _arguments(self, rows: Rows, step: int) -> tuple[Any, ...]:
        n = len(rows)
        shapes = [(n, units) for units in self._dropout_units()]
        masks = layer_masks(self.training.seed, step, shapes, self.model.dropout)
        moved = augmentations(self.training.augment, self.training.seed, step, n, self.model.image_size)
        return self.data["x"][rows], self.data["y"][rows], np.float32(self.rate), masks, moved

    def _flush(self) -> None:
        """Run the queued steps."""
        if self.pending:
            with tf.device(self.device):
                self._train(*tf.nest.map_structure(lambda *parts: tf.constant(np.stack(parts)), *self.pending))
            self.pending.clear()

    def _steps(self, x: Tensor, y: Tensor, rate: Tensor, masks: list[Tensor], drawn: Mapping[str, Tensor]) -> None:
        """Run the steps on batches [steps, n, …], one after the other."""

        def one(i: Tensor) -> list[Tensor]:
            this = {name: draw[i] for name, draw in drawn.items()}
            self._step(x[i], y[i], rate[i], [mask[i] for mask in masks], this)
            return [i + 1]

        tf.while_loop(lambda i: i < tf.shape(x)[0], one, [0])

    def _step(self, x: Tensor, y: Tensor, rate: Tensor, masks: list[Tensor], drawn: Mapping[str, Tensor]) -> None:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(self._trained().values()))
            running: dict[str, Tensor] = {}
            logits = self._forward(augmented(pixels(x), drawn), self.computed, running, masks)
            loss = self._loss(logits, y)
            minimized = self._penalized(loss)
        self._learn("", minimized, tape.gradient(minimized, list(self._trained().values())), rate, running)
        n = tf.cast(tf.size(y), tf.float64)
        self._add(tf.stack([tf.cast(loss, tf.float64) * n, self._correct(logits, y), n]))

    def _take_totals(self) -> list[float]:
        self._flush()
        return super()._take_totals()

    # -- the network ------------------------------------------------------------------------------

    def _forward(self, x: Tensor, dtype: Any, running: Running = None, masks: list[Tensor] | None = None) -> Tensor:
        """Return float32 logits. `running` receives batch norm's new statistics; None means evaluation."""
        return tf.cast(self._linear(self._features(x, dtype, running, masks), "output", dtype), tf.float32)

    def _features(self, x: Tensor, dtype: Any, running: Running = None, masks: list[Tensor] | None = None) -> Tensor:
        """Return the input of the output layer: [n, width]."""
        x = tf.cast(x, dtype)
        for i, pooled in enumerate(self.model.pool):
            x = self._norm(self._convolve(x, f"conv{i}", dtype), f"norm{i}", running)
            x = self._activated_and_pooled(x) if pooled else self.activation(x)
        x = tf.reshape(x, [-1, int(np.prod(self.model.feature_map()))])
        for i in range(len(self.model.dense)):
            x = self.activation(self._linear(x, f"dense{i}", dtype))
            if masks:
                x = tf.where(masks[i], tf.zeros([], dtype), x / (1 - self.model.dropout))
        return x

    def _convolve(self, x: Tensor, name: str, dtype: Any) -> Tensor:
        w, padding = self.tensors, self.model.padding.upper()
        if self.model.convolution == "separable":
            size, channels = self.model.kernel_size, x.shape[-1]
            # The variable is [kh, kw, 1, in] (`layout`), the same numbers in the same order.
            depthwise = tf.reshape(tf.cast(w[f"{name}.depthwise"], dtype), [size, size, channels, 1])
            x = tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], padding)
            x = tf.nn.conv2d(x, tf.cast(w[f"{name}.pointwise"], dtype), 1, "VALID")
        else:
            x = tf.nn.conv2d(x, tf.cast(w[f"{name}.weight"], dtype), 1, padding)
        return tf.nn.bias_add(x, tf.cast(w[f"{name}.bias"], dtype))

    def _activated_and_pooled(self, x: Tensor) -> Tensor:
        if self.model.pooling == "average":
            return tf.nn.avg_pool2d(self.activation(x), 2, 2, "VALID")
        # The same values: activations are monotone; a quarter of the work.
        return self.activation(tf.nn.max_pool2d(x, 2, 2, "VALID"))

    def _norm(self, x: Tensor, name: str, running: Running) -> Tensor:
        if self.model.normalization != "layer":
            return super()._norm(x, name, running)
        # Converted twice: in bfloat16, the gradient of a single conversion would be rounded differently.
        mean, var = tf.nn.moments(tf.cast(x, tf.float32), [1, 2, 3], keepdims=True)
        normal = (tf.cast(x, tf.float32) - mean) * tf.math.rsqrt(var + NORM_EPS)
        return tf.cast(normal * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"], x.dtype)

    def _linear(self, x: Tensor, name: str, dtype: Any) -> Tensor:
        product = tf.matmul(x, tf.cast(self.tensors[f"{name}.weight"], dtype))
        return tf.nn.bias_add(product, tf.cast(self.tensors[f"{name}.bias"], dtype))

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.model.loss == "mean_squared_error":
            return self._squared_error(logits, y)
        if self.model.output == "sigmoid":
            wanted = tf.cast(y, tf.float32)
            return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits[:, 0]))
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))

    def _squared_error(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.model.output == "sigmoid":
            return tf.reduce_mean(tf.square(tf.sigmoid(logits[:, 0]) - tf.cast(y, tf.float32)))
        return tf.reduce_mean(tf.square(tf.nn.softmax(logits) - tf.one_hot(y, self.classes)))

    def _penalized(self, loss: Tensor) -> Tensor:
        """Return the loss with the penalties on the kernels that learn."""
        l1, l2 = self.model.l1, self.model.l2
        kernels = [w for w in self._trained().values() if is_kernel(tuple(w.shape))] if l1 or l2 else []
        for kernel in kernels:
            loss = loss + l1 * tf.reduce_sum(tf.abs(kernel)) + l2 * tf.reduce_sum(tf.square(kernel))
        return loss

    def _correct(self, logits: Tensor, y: Tensor) -> Tensor:
        chosen = tf.cast(logits[:, 0] > 0, tf.int64) if self.model.output == "sigmoid" else tf.argmax(logits, 1)
        return tf.reduce_sum(tf.cast(chosen == y, tf.float64))

    # -- random numbers of a step, drawn in numpy -------------------------------------------------

    def _dropout_units(self) -> list[int]:
        """Return the units of the layers with dropout."""
        return list(self.model.dense) if self.model.dropout else []

    # -- evaluation -------------------------------------------------------------------------------

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        self._flush()
        n = len(split["y"])
        with tf.device(self.device):
            totals = tf.zeros(2, tf.float64)
            for at in range(0, n, batch_size):
                totals += self._evaluate(*(split[key][at : at + batch_size] for key in ("x", "y")))
        loss, correct = (totals.numpy() / n).tolist()
        return {"loss": loss, "accuracy": correct}

    def _evaluate_batch(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self._forward(pixels(x), self.computed)
        total = tf.cast(self._loss(logits, y), tf.float64) * tf.cast(tf.size(y), tf.float64)
        return tf.stack([total, self._correct(logits, y)])

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return probabilities [n, classes], float32, computed in float32 so that both frameworks agree."""
        if len(inputs) == 0:
            return np.empty((0, self.classes), np.float32)
        self._flush()
        return np.concatenate(self._in_batches(self._predict, inputs, batch_size))

    def features(self, inputs: Array, batch_size: int) -> Array:
        """Return the input of the output layer, [n, width] float32, computed in float32."""
        self._flush()
        return np.concatenate(self._in_batches(self._embed, inputs, batch_size))

    def _embed_batch(self, x: Tensor) -> Tensor:
        return self._features(pixels(x), tf.float32)

    def _probabilities(self, x: Tensor) -> Tensor:
        logits = self._forward(pixels(x), tf.float32)
        if outputs(self.model, self.classes) == 1:
            second = tf.sigmoid(logits)
            return tf.concat([1 - second, second], 1)
        return tf.nn.softmax(logits)

    # -- state ------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Array]:
        self._flush()
        return super().weights()

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        self._flush()
        super().load_weights(weights)

    def _image(self) -> tuple[int, int, int]:
        return (*self.model.image_size, self.model.image_channels)

    def _own(self, name: str, array: Array) -> Array:
        return layout.to_channels_last(array, read=self._maps_read(name))

    def _canonical(self, name: str, array: Array) -> Array:
        return layout.to_canonical(array, read=self._maps_read(name))

    def _maps_read(self, name: str) -> layout.Maps | None:
        """Return (channels, height, width) of the maps that a dense layer reads, or None."""
        if name != ("dense0.weight" if self.model.dense else "output.weight"):
            return None
        height, width, channels = self.model.feature_map()
        return channels, height, width


build = TensorflowCnn
