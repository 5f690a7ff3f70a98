"""The canonical weights of a GAN: names, shapes and initial values, the same in both frameworks.

generator.dense{i}.weight [out, in] | bias [out]        generator.dense_norm{i}.… (weight, bias, running_mean and _var)
generator.project.weight [maps * h * w, in] | bias      generator.norm0.…        to the smallest maps, in C, H, W order
generator.up{i}.weight [in, out, kh, kw] | bias [out]   generator.norm{i}.…      i from 1
generator.output.weight | bias                          an up, or without filters a dense layer in C, H, W order
discriminator.conv{i}.weight [out, in, kh, kw] | bias   discriminator.norm{i}.…  i from 1 for the norm
discriminator.dense{i}.weight [out, in] | bias          discriminator.dense_norm{i}.…; the first reads C, H, W order
discriminator.output.weight [1, in] | bias [1]

A layer that batch norm follows has no bias. For the normalization see `worker.training.numerics.norms`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from nightshift.families.learner import Array
from nightshift.families.training import Training
from worker.families.gan.family import GanModel
from worker.training.numerics.data_order import generator
from worker.training.numerics.norms import NORM_WEIGHTS

#: Prefixes of the weights' names.
NETWORKS = ("generator", "discriminator")

Shape = tuple[int, ...]


def shapes(model: GanModel) -> dict[str, Shape]:
    """Return the name and shape of every weight, in the order of the networks."""
    return dict((*_generator(model), *_discriminator(model)))


def _generator(model: GanModel) -> Iterator[tuple[str, Shape]]:
    width, normalization, filters = model.latent, model.generator_normalization, model.generator_filters
    for i, units in enumerate(model.generator_dense):
        yield from _layer(f"generator.dense{i}", (units, width), units, normalization, f"generator.dense_norm{i}")
        width = units
    size, channels, kernel = math.prod(model.halved(len(filters))), model.image_channels, model.kernel_size
    if not filters:
        yield from _layer("generator.output", (size * channels, width), size * channels)
        return
    maps = filters[0]
    yield from _layer("generator.project", (maps * size, width), maps * size, normalization, "generator.norm0", maps)
    for i, (before, after) in enumerate(pairwise(filters), 1):
        yield from _layer(
            f"generator.up{i}", (before, after, kernel, kernel), after, normalization, f"generator.norm{i}"
        )
    yield from _layer("generator.output", (filters[-1], channels, kernel, kernel), channels)


def _discriminator(model: GanModel) -> Iterator[tuple[str, Shape]]:
    channels, kernel, filters = int(model.image_channels), model.kernel_size, model.discriminator_filters
    for i, maps in enumerate(filters):
        normalization = model.discriminator_normalization if i else "none"
        shape = (maps, channels, kernel, kernel)
        yield from _layer(f"discriminator.conv{i}", shape, maps, normalization, f"discriminator.norm{i}")
        channels = maps
    width = channels * math.prod(model.halved(len(filters)))
    for i, units in enumerate(model.discriminator_dense):
        normalization = model.discriminator_normalization if filters or i else "none"
        yield from _layer(
            f"discriminator.dense{i}", (units, width), units, normalization, f"discriminator.dense_norm{i}"
        )
        width = units
    yield from _layer("discriminator.output", (1, width), 1)


def _layer(
    name: str, shape: Shape, width: int, normalization: str = "none", norm: str = "", normed: int | None = None
) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    if normalization != "batch":
        yield f"{name}.bias", (width,)
    for part in NORM_WEIGHTS[normalization]:
        yield f"{norm}.{part}", (normed or width,)


def initial(model: GanModel, seed: int) -> dict[str, Array]:
    """Return initial weights: Glorot uniform, zero biases, neutral norms."""
    draw = generator(seed, "init", 0)
    return {name: _start(draw, name, shape) for name, shape in shapes(model).items()}


def _start(draw: np.random.Generator, name: str, shape: Shape) -> Array:
    if len(shape) == 1:
        return np.full(shape, float("norm" in name and name.endswith(("weight", "running_var"))), np.float32)
    window = math.prod(shape[2:])
    limit = math.sqrt(6 / ((shape[0] + shape[1]) * window))
    return draw.uniform(-limit, limit, shape).astype(np.float32)


def precision(model: GanModel, training: Training) -> str:
    """Return the precision to use; `auto` leaves dense networks in float32.

    Converting their weights costs more than bfloat16 saves.
    """
    convolves = model.generator_filters or model.discriminator_filters
    return "float32" if training.precision == "auto" and not convolves else training.precision


# -- pixels ---------------------------------------------------------------------------------------


def pixel_scale(model: GanModel) -> tuple[float, float]:
    """Return (a, b): the networks' inputs are a times the stored bytes, plus b."""
    return (1 / 255, 0.0) if model.output == "sigmoid" else (2 / 255, -1.0)


def to_bytes(model: GanModel, pictures: Array) -> Array:
    """Convert the generator's outputs to uint8 pixels 0 … 255."""
    a, b = pixel_scale(model)
    return np.clip(np.rint((pictures - b) / a), 0, 255).astype(np.uint8)
