"""Generative adversarial networks. A preset is a complete model; fields given with it override its values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nightshift.families.family import Family, Parts
from nightshift.families.fields import ImageSize, ModelSpec, Probability, Width
from nightshift.families.layers import Layer
from nightshift.families.optimizers import KERAS_ADAM
from nightshift.families.trial import Trial
from nightshift.names import Framework

GanNorm = Literal["none", "batch", "layer"]
Layers = Annotated[list[Width], Field(max_length=16)]

#: Most weights of both networks together; more would not fit into memory with gradients and two moments.
MAX_WEIGHTS = 1_000_000_000


class GanModel(ModelSpec):
    """Settings of a GAN: a generator and a discriminator.

    generator:     z -> [dense -> norm -> relu -> dropout] x m -> picture (dense), or
                      -> dense to small maps -> norm -> relu -> dropout -> [up -> norm -> relu -> dropout] -> up ->
                      picture
    discriminator: picture -> [conv -> norm -> relu -> dropout] x n -> flatten -> [dense -> norm -> relu -> dropout] x m
                      -> one logit

    Each `up` (transposed convolution) doubles height and width, each `conv` halves them. There is one `up` per entry of
    `generator_filters`; the last one outputs the image. The discriminator's first layer is never normalized
    (Radford et al. 2016). Dropout drops whole maps of convolutions and single units of dense layers.
    """

    family: Literal["gan"] = "gan"
    framework: Framework = "torch"
    preset: str = "dcgan"
    image_size: ImageSize
    image_channels: Literal[1, 3]
    latent: Annotated[Width, Field(description="Size of the noise vector z, drawn from a standard normal.")]
    generator_dense: Annotated[Layers, Field(description="Units of each dense layer after z.")]
    generator_filters: Annotated[Layers, Field(description="Channels before each doubling of the size; empty: none.")]
    generator_normalization: GanNorm
    generator_dropout: Probability
    discriminator_filters: Annotated[Layers, Field(description="Filters of each convolution; each halves the size.")]
    discriminator_dense: Annotated[Layers, Field(description="Units of each dense layer after the convolutions.")]
    discriminator_normalization: GanNorm
    discriminator_dropout: Probability
    leak: Annotated[Probability, Field(description="Slope of the discriminator's relu below zero.")]
    kernel_size: Annotated[
        Literal[2, 4, 6, 8], Field(description="Kernel of all convolutions; even, for a stride of 2.")
    ]
    output: Annotated[Literal["sigmoid", "tanh"], Field(description="Range of pixels: 0 … 1 (sigmoid), -1 … 1 (tanh).")]
    updates: Annotated[
        Literal["alternating", "joint"],
        Field(description="The generator learns through the discriminator after (alternating) or before its step."),
    ]

    @model_validator(mode="after")
    def _buildable(self) -> GanModel:
        for name in ("generator_filters", "discriminator_filters"):
            if min(self.image_size) >> len(getattr(self, name)) < 1:
                raise ValueError(f"image_size is too small to be halved once for every entry of {name}")
        if self.weight_count() > MAX_WEIGHTS:
            raise ValueError(f"the model would have more than {MAX_WEIGHTS:,} weights; use smaller layers")
        return self

    def halved(self, times: int) -> tuple[int, int]:
        """Return height and width after `times` halvings (rounded down)."""
        return self.image_size[0] >> times, self.image_size[1] >> times

    def weight_count(self) -> int:
        """Return the number of weights of both networks."""
        return sum(layer.parameters for layer in self.layers({}))

    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer]:
        return [*self._generator(), *self._discriminator()]

    def _generator(self) -> Iterator[Layer]:
        dense, filters, channels = self.generator_dense, self.generator_filters, int(self.image_channels)
        normalization, rate = self.generator_normalization, self.generator_dropout
        picture, width = (*self.image_size, channels), self.latent
        for i, units in enumerate(dense):
            names = (f"generator.dense{i}", f"generator.dense_norm{i}")
            yield from _block(names, "dense", (units,), width * units, "relu", normalization, rate)
            width = units
        if not filters:
            pixels = math.prod(picture)
            yield Layer("generator.output", f"dense, {self.output}", picture, width * pixels + pixels)
            return
        maps, size = filters[0], self.halved(len(filters))
        names = ("generator.project", "generator.norm0")
        inputs = width * math.prod(size) * maps
        yield from _block(names, "dense to maps", (*size, maps), inputs, "relu", normalization, rate)
        up = f"transposed convolution {self.kernel_size}x{self.kernel_size} stride 2"
        for i in range(1, len(filters)):
            names, shape = (f"generator.up{i}", f"generator.norm{i}"), (*self.halved(len(filters) - i), filters[i])
            numbers = self.kernel_size**2 * filters[i - 1] * filters[i]
            yield from _block(names, up, shape, numbers, "relu", normalization, rate)
        numbers = self.kernel_size**2 * filters[-1] * channels
        yield Layer("generator.output", f"{up}, {self.output}", picture, numbers + channels)

    def _discriminator(self) -> Iterator[Layer]:
        filters, dense, channels = self.discriminator_filters, self.discriminator_dense, int(self.image_channels)
        rate, relu = self.discriminator_dropout, f"leaky relu {self.leak:g}" if self.leak else "relu"
        convolution = f"convolution {self.kernel_size}x{self.kernel_size} stride 2"
        for i, maps in enumerate(filters):
            normalization = self.discriminator_normalization if i else "none"
            names, shape = (f"discriminator.conv{i}", f"discriminator.norm{i}"), (*self.halved(i + 1), maps)
            numbers = self.kernel_size**2 * channels * maps
            yield from _block(names, convolution, shape, numbers, relu, normalization, rate)
            channels = maps
        width = channels * math.prod(self.halved(len(filters)))
        for i, units in enumerate(dense):
            normalization = self.discriminator_normalization if filters or i else "none"
            names = (f"discriminator.dense{i}", f"discriminator.dense_norm{i}")
            yield from _block(names, "dense", (units,), width * units, relu, normalization, rate)
            width = units
        yield Layer("discriminator.output", "dense, sigmoid", (1,), width + 1)


def _block(
    names: tuple[str, str],
    kind: str,
    shape: tuple[int, ...],
    numbers: int,
    activation: str,
    normalization: str,
    dropout: float,
) -> Iterator[Layer]:
    """Yield a layer of `numbers` weights with its normalization; one that batch norm follows has no bias."""
    width, then = shape[-1], activation + (f", dropout {dropout:g}" if dropout else "")
    biases = 0 if normalization == "batch" else math.prod(shape) if kind.startswith("dense") else width
    if normalization == "none":
        yield Layer(names[0], f"{kind}, {then}", shape, numbers + biases)
        return
    yield Layer(names[0], kind, shape, numbers + biases)
    fixed = 2 * width if normalization == "batch" else 0
    yield Layer(names[1], f"{normalization} normalization, {then}", shape, 2 * width, fixed)


#: The published pair of dense networks.
_DENSE: dict[str, Any] = {
    "image_size": (28, 28), "image_channels": 1, "latent": 100,
    "generator_dense": [128], "generator_filters": [], "generator_normalization": "none", "generator_dropout": 0.0,
    "discriminator_filters": [], "discriminator_dense": [128], "discriminator_normalization": "none",
    "discriminator_dropout": 0.0, "leak": 0.0, "kernel_size": 4, "output": "sigmoid", "updates": "alternating",
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "dense": {**_DENSE, "updates": "joint"},
    "dense-tuned": _DENSE,
    "dcgan": {
        "image_size": (28, 28), "image_channels": 1, "latent": 64,
        "generator_dense": [512], "generator_filters": [128, 64], "generator_normalization": "batch",
        "generator_dropout": 0.0, "discriminator_filters": [32, 64], "discriminator_dense": [256],
        "discriminator_normalization": "batch", "discriminator_dropout": 0.0, "leak": 0.2, "kernel_size": 4,
        "output": "tanh", "updates": "alternating",
    },
}  # fmt: skip
GanModel.PRESETS = PRESETS

#: Training defaults of each preset. `dense` has the optimizer and the step of the published listing; its batch size and
#: epochs are ours. In the others a lower `beta1` keeps both networks from oscillating (Radford et al. 2016).
TRAINING_DEFAULTS: dict[str, dict[str, Any]] = {
    "dense": {
        **KERAS_ADAM, "learning_rate": 0.0001, "lr_schedule": "constant", "batch_size": 64, "epochs": 20,
        "validation_split": 0.0,
    },
    "dense-tuned": {
        "optimizer": "adam", "learning_rate": 0.0002, "lr_schedule": "cosine", "beta1": 0.5, "batch_size": 64,
        "epochs": 20,
    },
    "dcgan": {
        "optimizer": "adam", "learning_rate": 0.0005, "lr_schedule": "cosine", "beta1": 0.5, "batch_size": 64,
        "epochs": 10,
    },
}  # fmt: skip

#: The small case of the conformance tests.
TRIAL = Trial(
    model={
        "image_size": [8, 8], "latent": 6, "generator_dense": [7], "generator_filters": [6, 5],
        "generator_dropout": 0.1, "discriminator_filters": [4, 6], "discriminator_dense": [7],
        "discriminator_dropout": 0.1,
    },
    training={
        "epochs": 2, "batch_size": 4, "learning_rate": 0.002, "lr_schedule": "cosine", "warmup_steps": 20,
        "grad_clip": 5.0, "validation_split": 0.2,
        "early_stopping": {"metric": "val_frechet_distance", "patience": 5},
    },
    inference=({"task": "generate", "count": 130},),
    gpu_tolerance=0.1,  # its networks react to each other
)  # fmt: skip

FAMILY = Family(
    name="gan",
    description="Generative adversarial networks.",
    model=GanModel,
    default_preset="dcgan",
    training_defaults=TRAINING_DEFAULTS,
    learners={
        "torch": "worker.families.gan.torch_learner:build",
        "tensorflow": "worker.families.gan.tensorflow_learner:build",
    },
    parts=Parts(
        load_splits="worker.families.gan.data:load_splits",
        load_test="worker.families.gan.data:load_test",
        report="worker.families.gan.evaluation:report",
        examples="worker.families.gan.per_example:examples",
        draw="worker.families.gan.plots:draw",
        open_source="worker.families.gan.batch_inference:open_source",
        export_onnx="worker.families.gan.onnx_export:export",
        start_epochs="worker.families.gan.per_epoch:start",
        collect_epochs="worker.families.gan.per_epoch:collect",
    ),
    dataset_kind="image",
    watchable=frozenset({"val_frechet_distance"}),
    watched="val_frechet_distance",
    judged_by=("frechet_distance", "precision", "recall"),
    resampled=False,
    tasks=("generate",),
    features=("discriminator.conv", "discriminator.norm"),
    trial=TRIAL,
    loads=(1,),
)
