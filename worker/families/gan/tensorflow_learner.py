"""The GAN in TensorFlow: two networks, two optimizers, one graph per step, native bfloat16."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from nightshift.families.learner import Array, LearnerSetup
from worker.families.gan.family import GanModel
from worker.families.gan.noise import dropout_masks, masked_widths, noise_in_batches, sample_noise, step_noise
from worker.families.gan.weights import NETWORKS, initial, pixel_scale, precision, to_bytes
from worker.training.backends import tensorflow_support as support
from worker.training.backends.tensorflow_base import Running, TensorflowLearner
from worker.training.gang import Rows
from worker.training.numerics import layout

Tensor = Any
#: Dropout: the factors of each layer's outputs.
Drop = Sequence[Tensor]


class TensorflowGan(TensorflowLearner):
    """A GAN in TensorFlow; the twin of `TorchGan`.

    The `facts` of its setup: optionally `frozen` (prefixes of fixed weights).
    """

    model: GanModel
    MEASURED = ("g_loss", "d_loss")

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.computed = support.computed(self.device, precision(self.model, self.training))
        self.scale, self.shift = pixel_scale(self.model)
        self._begin(initial(self.model, self.training.seed), NETWORKS)
        self.data: dict[str, Array] = {}
        pixels, z = self._specs()
        self._evaluate = support.compiled(self._evaluate_batch, [pixels, z])
        self._predict = support.compiled(self._probabilities, [pixels])
        self._sample = support.compiled(self._pictures, [z])

    # -- the step ---------------------------------------------------------------------------------

    @cached_property
    def _train(self) -> Any:
        """The graph of a step. Traced on its own, it skips a check of arguments that takes a fifth of a small step."""
        drop = {
            use: [tf.TensorSpec([None, width], tf.float32) for width in widths]
            for use, widths in masked_widths(self.model).items()
        }
        graph = self._graph_of_step(*self._specs(), tf.TensorSpec([], tf.float32), drop)
        return graph.get_concrete_function() if self.gang is None else graph

    def _specs(self) -> tuple[Any, Any]:
        """Return those of images and of z."""
        pixels = tf.TensorSpec([None, *self.model.image_size, self.model.image_channels], tf.uint8)
        return pixels, tf.TensorSpec([None, self.model.latent], tf.float32)

    def set_data(self, split: Mapping[str, Array]) -> None:
        self.data = {"x": split["x"]}

    def _arguments(self, rows: Rows, step: int) -> tuple[Any, ...]:
        rows = rows.repeat(2) if len(rows) == 1 else rows  # batch norm needs a variance
        seed, n = self.training.seed, len(rows)
        z, drop = step_noise(self.model, seed, step, n), dropout_masks(self.model, seed, step, n)
        return self.data["x"][rows], z, np.float32(self.rate), drop

    def _step(self, x: Tensor, z: Tensor, rate: Tensor, drop: Mapping[str, Drop]) -> None:
        running = {name: tf.identity(tensor) for name, tensor in self.tensors.items() if ".running_" in name}
        update = self._alternating if self.model.updates == "alternating" else self._joint
        g_loss, d_loss = update(self._pixels(x), z, rate, running, drop)
        n = tf.cast(tf.shape(x)[0], tf.float64)
        self._add(tf.stack([tf.cast(g_loss, tf.float64) * n, tf.cast(d_loss, tf.float64) * n, n]))

    def _alternating(
        self, x: Tensor, z: Tensor, rate: Tensor, running: dict[str, Tensor], drop: Mapping[str, Drop]
    ) -> tuple[Tensor, Tensor]:
        """Train the discriminator, then the generator on the same fakes through the updated discriminator."""
        generator, discriminator = (list(self._trained(part).values()) for part in NETWORKS)
        with tf.GradientTape(watch_accessed_variables=False) as generator_tape:
            generator_tape.watch(generator)
            fakes = self._generate(z, self.computed, running, drop["generator"])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(discriminator)
            real = self._discriminate(x, self.computed, running, drop["real"])
            fake = self._discriminate(fakes, self.computed, running, drop["fake"])
            d_loss = _told_apart(real, fake)
        self._learn("discriminator", d_loss, tape.gradient(d_loss, discriminator), rate)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(fakes)
            g_loss = _taken_for_real(self._discriminate(fakes, self.computed, dict(running), drop["fooled"]))
        gradients = generator_tape.gradient(fakes, generator, output_gradients=tape.gradient(g_loss, fakes))
        self._learn("generator", g_loss, gradients, rate, running)
        return g_loss, d_loss

    def _joint(
        self, x: Tensor, z: Tensor, rate: Tensor, running: dict[str, Tensor], drop: Mapping[str, Drop]
    ) -> tuple[Tensor, Tensor]:
        """Train both networks on one judgement of the fakes, by the discriminator before its step."""
        generator, discriminator = (list(self._trained(part).values()) for part in NETWORKS)
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
            tape.watch([*generator, *discriminator])
            fakes = self._generate(z, self.computed, running, drop["generator"])
            real = self._discriminate(x, self.computed, running, drop["real"])
            fake = self._discriminate(fakes, self.computed, running, drop["fake"])
            g_loss, d_loss = _taken_for_real(fake), _told_apart(real, fake)
        of_generator, of_discriminator = tape.gradient(g_loss, generator), tape.gradient(d_loss, discriminator)
        self._learn("discriminator", d_loss, of_discriminator, rate)
        self._learn("generator", g_loss, of_generator, rate, running)
        return g_loss, d_loss

    # -- the networks -----------------------------------------------------------------------------

    def _generate(self, z: Tensor, dtype: Any, running: Running = None, drop: Drop = ()) -> Tensor:
        """Return images [n, h, w, c], float32, in the range of the discriminator's inputs."""
        model, masks = self.model, iter(drop)
        x = tf.cast(z, dtype)
        for i in range(len(model.generator_dense)):
            x = self._linear(x, f"generator.dense{i}")
            x = self._drop(tf.nn.relu(self._norm(x, f"generator.dense_norm{i}", running)), masks)
        filters, sizes = model.generator_filters, [model.halved(i) for i in range(len(model.generator_filters) + 1)]
        if filters:
            x = tf.reshape(self._linear(x, "generator.project"), [-1, *sizes[-1], filters[0]])
            x = self._drop(tf.nn.relu(self._norm(x, "generator.norm0", running)), masks)
            for i in range(1, len(filters)):
                x = self._up(x, f"generator.up{i}", sizes[len(filters) - i])
                x = self._drop(tf.nn.relu(self._norm(x, f"generator.norm{i}", running)), masks)
            x = self._up(x, "generator.output", sizes[0])
        else:
            x = tf.reshape(self._linear(x, "generator.output"), [-1, *sizes[0], model.image_channels])
        x = tf.cast(x, tf.float32)
        return tf.sigmoid(x) if model.output == "sigmoid" else tf.tanh(x)

    def _discriminate(self, x: Tensor, dtype: Any, running: Running = None, drop: Drop = ()) -> Tensor:
        """Return logits [n], float32, for an image being real."""
        model, masks = self.model, iter(drop)
        x = tf.cast(x, dtype)
        for i in range(len(model.discriminator_filters)):
            x = self._norm(self._down(x, f"discriminator.conv{i}"), f"discriminator.norm{i}", running)
            x = self._drop(tf.nn.leaky_relu(x, model.leak), masks)
        x = tf.reshape(x, [-1, math.prod(x.shape[1:])])
        for i in range(len(model.discriminator_dense)):
            x = self._norm(self._linear(x, f"discriminator.dense{i}"), f"discriminator.dense_norm{i}", running)
            x = self._drop(tf.nn.leaky_relu(x, model.leak), masks)
        return tf.cast(self._linear(x, "discriminator.output")[:, 0], tf.float32)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return self._biased(tf.matmul(x, tf.cast(self.tensors[f"{name}.weight"], x.dtype)), name)

    def _biased(self, x: Tensor, name: str) -> Tensor:
        """Add the bias by a plain sum: TensorFlow's graph optimizer fails on BiasAdd before LeakyRelu."""
        bias = self.tensors.get(f"{name}.bias")
        return x if bias is None else x + tf.cast(bias, x.dtype)

    # Explicit paddings would be equivalent, but their gradients in bfloat16 take 50 times as long on a CPU.

    def _down(self, x: Tensor, name: str) -> Tensor:
        """Apply a convolution that halves height and width, rounding down."""
        weight, side = tf.cast(self.tensors[f"{name}.weight"], x.dtype), self.model.kernel_size // 2 - 1
        if x.shape[1] % 2 == x.shape[2] % 2 == 0:
            return self._biased(tf.nn.conv2d(x, weight, 2, "SAME"), name)
        x = tf.pad(x, [[0, 0], [side, side], [side, side], [0, 0]])
        return self._biased(tf.nn.conv2d(x, weight, 2, "VALID"), name)

    def _up(self, x: Tensor, name: str, size: tuple[int, int]) -> Tensor:
        """Apply a transposed convolution that doubles height and width, plus one if `size` is odd."""
        weight, side = tf.cast(self.tensors[f"{name}.weight"], x.dtype), self.model.kernel_size // 2 - 1
        (height, width), maps = size, weight.shape[2]
        if height % 2 == width % 2 == 0:
            x = tf.nn.conv2d_transpose(x, weight, tf.stack([tf.shape(x)[0], height, width, maps]), 2, "SAME")
        else:
            shape = tf.stack([tf.shape(x)[0], height + 2 * side, width + 2 * side, maps])
            x = tf.nn.conv2d_transpose(x, weight, shape, 2, "VALID")
            x = x[:, side : side + height, side : side + width]
        return self._biased(tf.ensure_shape(x, [None, height, width, maps]), name)

    def _drop(self, x: Tensor, masks: Iterator[Tensor]) -> Tensor:
        mask = next(masks, None)
        if mask is None:
            return x
        mask = tf.cast(mask, x.dtype)
        return x * (mask[:, None, None, :] if len(x.shape) == 4 else mask)

    def _pixels(self, x: Tensor) -> Tensor:
        """Convert bytes to float32, both [n, h, w, c]."""
        return tf.cast(x, tf.float32) * self.scale + self.shift

    # -- evaluation -------------------------------------------------------------------------------

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        """Return both losses, without dropout, on these images and as many samples."""
        n = len(split["x"])
        with tf.device(self.device):
            totals = tf.zeros(2, tf.float64)
            for at in range(0, n, batch_size):
                x = split["x"][at : at + batch_size]
                totals += self._evaluate(x, sample_noise(self.model, self.training.seed, at, len(x)))
        g_loss, d_loss = (totals.numpy() / n).tolist()
        return {"g_loss": g_loss, "d_loss": d_loss}

    def _evaluate_batch(self, x: Tensor, z: Tensor) -> Tensor:
        real = self._discriminate(self._pixels(x), self.computed)
        fake = self._discriminate(self._generate(z, self.computed), self.computed)
        d_losses = tf.cast(tf.nn.softplus(-real), tf.float64) + tf.cast(tf.nn.softplus(fake), tf.float64)
        return tf.stack([tf.reduce_sum(tf.cast(tf.nn.softplus(-fake), tf.float64)), tf.reduce_sum(d_losses)])

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the discriminator's probability that each image is real: [n] float32, computed in float32."""
        parts = self._in_batches(self._predict, inputs, batch_size)
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _probabilities(self, x: Tensor) -> Tensor:
        return tf.sigmoid(self._discriminate(self._pixels(x), tf.float32))

    def generate(self, count: int, seed: int, batch_size: int, start: int = 0) -> Array:
        """Return samples `start` … `start + count - 1` of `seed`: uint8 [count, h, w, c], computed in float32."""
        noise = noise_in_batches(self.model, seed, start, start + count, batch_size)
        empty = np.empty((0, *self.model.image_size, self.model.image_channels), np.uint8)
        with tf.device(self.device):
            begun = (self._sample(z).numpy for z in noise)
            return np.concatenate([empty, *(to_bytes(self.model, fetch()) for fetch in self._late(begun))])

    def _pictures(self, z: Tensor) -> Tensor:
        return self._generate(z, tf.float32)

    def _own(self, name: str, array: Array) -> Array:
        return layout.to_channels_last(array, self._maps_read(name), self._maps_made(name))

    def _canonical(self, name: str, array: Array) -> Array:
        return layout.to_canonical(array, self._maps_read(name), self._maps_made(name))

    def _maps_made(self, name: str) -> layout.Maps | None:
        """Return (channels, height, width) of the maps that a dense layer of the generator produces, or None."""
        filters = self.model.generator_filters
        if filters and name.startswith("generator.project."):
            return filters[0], *self.model.halved(len(filters))
        if not filters and name.startswith("generator.output."):
            return self.model.image_channels, *self.model.image_size
        return None

    def _maps_read(self, name: str) -> layout.Maps | None:
        """Return (channels, height, width) of the maps that a dense layer of the discriminator reads, or None."""
        filters = self.model.discriminator_filters
        if name != f"discriminator.{'dense0' if self.model.discriminator_dense else 'output'}.weight":
            return None
        return (filters[-1] if filters else self.model.image_channels), *self.model.halved(len(filters))


def _told_apart(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss of these logits."""
    return tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(fake))


def _taken_for_real(fake: Tensor) -> Tensor:
    """Return the generator's loss of these logits."""
    return tf.reduce_mean(tf.nn.softplus(-fake))


build = TensorflowGan
