"""Our GAN against loops by hand with the same networks, in turns: samples per second, and ours to the best of them.

    python -m benchmarks.bench_gan [--framework torch|tensorflow] [--preset dcgan] [--threads 2] [--rounds 5]
        [--batch-size 64]

The loops follow the frameworks' own DCGAN tutorials, the plain scripts that people begin with: torch, `nn.Sequential`
networks, `backward` on each loss, `optim.Adam`; TensorFlow, Keras layers, two tapes in one `tf.function`, Keras's Adam.
They get the images as float32 arrays in memory. That of our framework runs in float32 and in bfloat16, the other one in
float32. Bias: random pixels, nothing read from disk, no validation.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from benchmarks.each_framework import run_each
from benchmarks.sides import Measure, by_steps, in_turns, own_process, table
from nightshift.families.learner import Array, LearnerSetup
from nightshift.families.training import Training
from nightshift.names import FRAMEWORKS
from worker.families import load
from worker.families.gan.family import PRESETS, GanModel

ROWS = 8192
RATE, BETA1 = 0.0002, 0.5
Step = Callable[[], None]


def make_pictures(model: GanModel) -> Array:
    shape = (ROWS, *model.image_size, model.image_channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def ours(model: GanModel, batch_size: int, pictures: Array, threads: int) -> Step:
    training = Training(batch_size=batch_size, learning_rate=RATE, beta1=BETA1)
    learner = load("gan", model.framework)(LearnerSetup(model, training, 10_000, "cpu", threads))
    learner.set_data({"x": pictures})
    draw, steps = np.random.default_rng(0), count()
    return lambda: learner.train_step(draw.integers(0, ROWS, batch_size), next(steps))


# -- by hand: torch -------------------------------------------------------------------------------


def torch_by_hand(model: GanModel, batch_size: int, pictures: Array, *, bfloat16: bool) -> Step:
    import torch
    from torch import nn

    generator, discriminator = torch_generator(model), torch_discriminator(model)
    of_g = torch.optim.Adam(generator.parameters(), RATE, betas=(BETA1, 0.999))
    of_d = torch.optim.Adam(discriminator.parameters(), RATE, betas=(BETA1, 0.999))
    judge = nn.BCEWithLogitsLoss()
    data = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1
    ones, zeros = torch.ones(batch_size, 1), torch.zeros(batch_size, 1)

    def step() -> None:
        real = data[torch.randint(0, ROWS, (batch_size,))]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            fake = generator(torch.randn(batch_size, model.latent))
            d_loss = judge(discriminator(real), ones) + judge(discriminator(fake.detach()), zeros)
        of_d.zero_grad()
        d_loss.backward()
        of_d.step()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            g_loss = judge(discriminator(fake), ones)
        of_g.zero_grad()
        g_loss.backward()
        of_g.step()

    return step


def torch_generator(model: GanModel) -> Any:
    from torch import nn

    width, filters, size = model.latent, model.generator_filters, model.halved(len(model.generator_filters))
    layers: list[nn.Module] = []
    for units in model.generator_dense:
        layers += [*_torch_dense(width, units, model.generator_normalization), nn.ReLU()]
        width = units
    last: nn.Module = nn.Tanh() if model.output == "tanh" else nn.Sigmoid()
    image = (model.image_channels, *model.image_size)
    if not filters:
        return nn.Sequential(*layers, nn.Linear(width, int(np.prod(image))), last, nn.Unflatten(1, image))
    layers += [nn.Linear(width, filters[0] * size[0] * size[1], bias=False), nn.Unflatten(1, (filters[0], *size))]
    for before, after in zip(filters, [*filters[1:], None], strict=True):
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
        kernel, channels = model.kernel_size, after or model.image_channels
        layers.append(nn.ConvTranspose2d(before, channels, kernel, 2, kernel // 2 - 1, bias=after is None))
    return nn.Sequential(*layers, last)


def torch_discriminator(model: GanModel) -> Any:
    from torch import nn

    layers: list[nn.Module] = []
    channels, kernel, normed = (
        int(model.image_channels),
        model.kernel_size,
        model.discriminator_normalization == "batch",
    )
    for i, maps in enumerate(model.discriminator_filters):
        norm = [nn.BatchNorm2d(maps)] if normed and i else []
        conv = nn.Conv2d(channels, maps, kernel, 2, kernel // 2 - 1, bias=not norm)
        layers += [conv, *norm, nn.LeakyReLU(model.leak)]
        channels = maps
    layers.append(nn.Flatten())
    width = channels * int(np.prod(model.halved(len(model.discriminator_filters))))
    for units in model.discriminator_dense:
        how = model.discriminator_normalization if model.discriminator_filters else "none"
        layers += [*_torch_dense(width, units, how), nn.LeakyReLU(model.leak)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 1))


def _torch_dense(width: int, units: int, norm: str) -> list[Any]:
    from torch import nn

    return [nn.Linear(width, units, bias=norm != "batch"), *([nn.BatchNorm1d(units)] if norm == "batch" else [])]


# -- by hand: TensorFlow --------------------------------------------------------------------------


def tensorflow_by_hand(model: GanModel, batch_size: int, pictures: Array, *, bfloat16: bool) -> Step:
    import keras
    import tensorflow as tf

    keras.mixed_precision.set_global_policy("mixed_bfloat16" if bfloat16 else "float32")
    tf.random.set_seed(1)  # required by determinism, which our learner enables for the process
    generator, discriminator = _keras_generator(model), keras_discriminator(model)
    of_g, of_d = (keras.optimizers.Adam(RATE, beta_1=BETA1) for _ in range(2))
    judge = keras.losses.BinaryCrossentropy(from_logits=True)
    data = pictures.astype(np.float32) / 127.5 - 1
    draw = np.random.default_rng(0)

    @tf.function  # type: ignore[untyped-decorator]
    def train(real: Any) -> None:
        with tf.GradientTape() as of_generator, tf.GradientTape() as of_discriminator:
            fake = generator(tf.random.normal([batch_size, model.latent]), training=True)
            says_real, says_fake = discriminator(real, training=True), discriminator(fake, training=True)
            g_loss = judge(tf.ones_like(says_fake), says_fake)
            d_loss = judge(tf.ones_like(says_real), says_real) + judge(tf.zeros_like(says_fake), says_fake)
        made, seen = generator.trainable_variables, discriminator.trainable_variables
        of_g.apply_gradients(zip(of_generator.gradient(g_loss, made), made, strict=True))
        of_d.apply_gradients(zip(of_discriminator.gradient(d_loss, seen), seen, strict=True))

    return lambda: train(data[draw.integers(0, ROWS, batch_size)])


def _keras_generator(model: GanModel) -> Any:
    from keras import Input, Sequential, layers

    filters, size = model.generator_filters, model.halved(len(model.generator_filters))
    image = (*model.image_size, model.image_channels)
    parts: list[Any] = [Input([model.latent])]
    for units in model.generator_dense:
        parts += [*_keras_dense(units, model.generator_normalization), layers.ReLU()]
    if not filters:
        return Sequential([*parts, layers.Dense(int(np.prod(image)), model.output), layers.Reshape(image)])
    parts += [layers.Dense(filters[0] * size[0] * size[1], use_bias=False), layers.Reshape((*size, filters[0]))]
    for after in filters[1:]:
        parts += [layers.BatchNormalization(), layers.ReLU()]
        parts.append(layers.Conv2DTranspose(after, model.kernel_size, 2, "same", use_bias=False))
    parts += [layers.BatchNormalization(), layers.ReLU()]
    last = layers.Conv2DTranspose(model.image_channels, model.kernel_size, 2, "same", activation=model.output)
    return Sequential([*parts, last])


def keras_discriminator(model: GanModel) -> Any:
    from keras import Input, Sequential, layers

    parts: list[Any] = [Input((*model.image_size, model.image_channels))]
    for i, maps in enumerate(model.discriminator_filters):
        norm = [layers.BatchNormalization()] if model.discriminator_normalization == "batch" and i else []
        parts += [layers.Conv2D(maps, model.kernel_size, 2, "same", use_bias=not norm), *norm]
        parts.append(layers.LeakyReLU(model.leak))
    parts.append(layers.Flatten())
    for units in model.discriminator_dense:
        how = model.discriminator_normalization if model.discriminator_filters else "none"
        parts += [*_keras_dense(units, how), layers.LeakyReLU(model.leak)]
    return Sequential([*parts, layers.Dense(1)])


def _keras_dense(units: int, norm: str) -> list[Any]:
    from keras import layers

    return [layers.Dense(units, use_bias=norm != "batch"), *([layers.BatchNormalization()] if norm == "batch" else [])]


# -- measuring ------------------------------------------------------------------------------------


def of_other(framework: str, preset: str, batch_size: int) -> Measure:
    """Return the other framework's loop, for a process of its own."""
    model = GanModel.model_validate({"preset": preset, "framework": framework})
    by_hand = torch_by_hand if framework == "torch" else tensorflow_by_hand
    return by_steps(by_hand(model, batch_size, make_pictures(model), bfloat16=False), batch_size)


def measure(given: argparse.Namespace, preset: str) -> str:
    """Return the table of one preset."""
    model = GanModel.model_validate({"preset": preset, "framework": given.framework})
    pictures, size = make_pictures(model), given.batch_size
    by_hand = torch_by_hand if given.framework == "torch" else tensorflow_by_hand
    (other,) = set(FRAMEWORKS) - {given.framework}
    learner = ours(model, size, pictures, given.threads)  # first: it sets TensorFlow's threads
    with own_process(of_other, other, preset, size, threads=given.threads) as of_the_other:
        sides = {
            "by hand, float32": by_steps(by_hand(model, size, pictures, bfloat16=False), size),
            "by hand, bfloat16": by_steps(by_hand(model, size, pictures, bfloat16=True), size),
            f"by hand, {other}": of_the_other,
            "ours": by_steps(learner, size),
        }
        return table(in_turns(sides, given.rounds, given.seconds), "ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, help="both, one after the other, where none is named")
    parser.add_argument("--preset", choices=list(PRESETS), nargs="+", default=["dense", "dcgan"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    if given.framework is None:
        sys.exit(run_each("bench_gan"))
    os.environ["OMP_NUM_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = str(given.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    print(
        f"gan, {given.framework}, batch {given.batch_size}, {given.threads} threads; samples/s, {given.rounds} rounds"
    )
    for preset in given.preset:
        print(f"\n{preset}\n{measure(given, preset)}", flush=True)


if __name__ == "__main__":
    main()
