"""Convolutional classifiers. A preset is a complete model; fields given with it override its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nightshift.errors import FieldError
from nightshift.families.family import CLASSIFIER_METRICS, IMAGE_CLASSIFIER, Family
from nightshift.families.fields import ImageSize, ModelSpec, Probability, Width
from nightshift.families.layers import Layer
from nightshift.families.optimizers import KERAS_ADAM
from nightshift.families.trial import Trial
from nightshift.metrics import Metric
from nightshift.names import Framework
from worker.families.cnn.layers import layers_of

ConvNorm = Literal["none", "batch", "layer"]
Penalty = Annotated[float, Field(ge=0, le=1_000)]
#: The fields of a model that an earlier version stored; all its kernels began by He's.
_STORED_EARLIER = frozenset({
    "image_size", "image_channels", "filters", "kernel_size", "pool", "normalization", "dense", "dropout", "output"
})  # fmt: skip
#: The classes of a summary of a model that was shown no data.
TYPICAL_CLASSES = 10


class CnnModel(ModelSpec):
    """Convolutional classifier.

    input -> [conv -> norm -> activation -> pool?] x n -> flatten -> [dense -> activation -> dropout] x m -> output.
    `output` is `softmax` (one logit per class) or `sigmoid` (two classes, one logit).
    """

    family: Literal["cnn"] = "cnn"
    framework: Framework = "torch"
    preset: str = "mnist-3conv-tuned"
    image_size: ImageSize
    image_channels: Literal[1, 3]
    filters: Annotated[list[Width], Field(min_length=1, max_length=32, description="Filters of each convolution.")]
    kernel_size: Annotated[int, Field(ge=1, le=31)]
    convolution: Annotated[
        Literal["standard", "separable"],
        Field(description="separable: a kernel for each channel, then a 1x1 convolution, without a bias between them."),
    ]
    padding: Annotated[
        Literal["valid", "same"],
        Field(description="same: zeros around the maps, so that convolutions keep their size."),
    ]
    pool: Annotated[list[bool], Field(description="Whether a 2x2 pooling follows each convolution.")]
    pooling: Literal["max", "average"]
    normalization: ConvNorm
    activation: Annotated[
        Literal["relu", "sigmoid", "tanh"], Field(description="After each convolution and each hidden dense layer.")
    ]
    dense: Annotated[list[Width], Field(max_length=16, description="Units of each hidden dense layer.")]
    dropout: Probability
    output: Literal["softmax", "sigmoid"]
    loss: Annotated[
        Literal["cross_entropy", "mean_squared_error"],
        Field(
            description="mean_squared_error: between probabilities and one-hot labels, a mean over rows and classes."
        ),
    ]
    l1: Annotated[Penalty, Field(description="l1 times the sum of |w| of all kernels is minimized with the loss.")]
    l2: Annotated[Penalty, Field(description="l2 times the sum of w² of all kernels is minimized with the loss.")]
    initialization: Annotated[
        Literal["he", "glorot"],
        Field(
            description="Of kernels. he: uniform, for relu; other activations begin by glorot. glorot: as Keras does."
        ),
    ]

    @model_validator(mode="before")
    @classmethod
    def _begin_as_stored(cls, data: Any) -> Any:
        """Keep the initialization of specs of earlier versions, which had no such field."""
        stored = isinstance(data, dict) and data.keys() >= _STORED_EARLIER
        return {"initialization": "he", **data} if stored else data

    @model_validator(mode="after")
    def _buildable(self) -> CnnModel:
        if len(self.pool) != len(self.filters):
            raise ValueError("pool must have as many entries as filters")
        self.feature_map()
        return self

    def unfit(self, dataset: str, summary: Mapping[str, Any]) -> FieldError | None:
        classes = len(summary["classes"])
        if self.output == "sigmoid" and classes != 2:
            message = f"`sigmoid` tells two classes apart and {dataset} has {classes}; use softmax"
            return FieldError(("output",), message)
        return None

    def feature_map(self) -> tuple[int, int, int]:
        """Return (height, width, filters) after the last convolution; raise ValueError if the image is too small."""
        return (*self.map_sizes()[-1], self.filters[-1])

    def map_sizes(self) -> list[tuple[int, int]]:
        """Return height and width after each convolution and its pooling."""
        height, width = self.image_size
        lost = self.kernel_size - 1 if self.padding == "valid" else 0
        sizes = []
        for pooled in self.pool:
            height, width = height - lost, width - lost
            if pooled:
                height, width = height // 2, width // 2
            if height < 1 or width < 1:
                raise ValueError("image_size is too small for this many convolutions and pools")
            sizes.append((height, width))
        return sizes

    def expected_facts(self, summary: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if summary is not None:
            return {"classes": list(summary["classes"])}
        return {"classes": [str(n) for n in range(2 if self.output == "sigmoid" else TYPICAL_CLASSES)]}

    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer]:
        return layers_of(self, len(facts["classes"]))


def _listing(
    size: int, channels: int, filters: list[int], pool: list[bool], dense: list[int], output: str = "softmax"
) -> dict[str, Any]:
    return {
        "image_size": (size, size), "image_channels": channels, "filters": filters, "kernel_size": 3,
        "convolution": "standard", "padding": "valid", "pool": pool, "pooling": "max", "normalization": "none",
        "activation": "relu", "dense": dense, "dropout": 0.0, "output": output, "loss": "cross_entropy", "l1": 0.0,
        "l2": 0.0, "initialization": "glorot",
    }  # fmt: skip


def _as_printed(*, batch_size: int, epochs: int, validation_split: float = 0.0) -> dict[str, Any]:
    """Return the training of a listing: Keras' adam at a constant rate; nothing is held out unless it says so."""
    return {
        **KERAS_ADAM, "learning_rate": 0.001, "lr_schedule": "constant", "batch_size": batch_size, "epochs": epochs,
        "validation_split": validation_split,
    }  # fmt: skip


_MNIST_3CONV = _listing(28, 1, [32, 64, 64], [True, True, False], [64])
PRESETS: dict[str, dict[str, Any]] = {
    "mnist-3conv-tuned": {**_MNIST_3CONV, "initialization": "he"},
    "mnist-fast": {
        **_listing(28, 1, [16, 32, 32], [True, True, False], []),
        "normalization": "batch",
        "initialization": "he",
    },
    "mnist-3conv": _MNIST_3CONV,
    "mnist-2conv": _listing(28, 1, [32, 64], [True, True], [128]),
    "mnist-1conv": _listing(28, 1, [32], [True], [128]),
    "mnist-1conv-linear": _listing(28, 1, [32], [True], []),
    "cats-vs-dogs": _listing(224, 3, [32, 64, 128], [True, True, True], [128], output="sigmoid"),
}
CnnModel.PRESETS = PRESETS

#: Training defaults of each preset. All but the first two are listings, as docs/listings.md tells; `mnist-fast` reaches
#: 99 % on MNIST soonest.
TRAINING_DEFAULTS: dict[str, dict[str, Any]] = {
    "mnist-3conv-tuned": {"lr_schedule": "cosine"},
    "mnist-fast": {
        "learning_rate": 0.01,
        "lr_schedule": "onecycle",
        "batch_size": 128,
        "epochs": 2,
        "validation_split": 0.0,
    },
    "mnist-3conv": _as_printed(batch_size=32, epochs=5),
    "mnist-2conv": _as_printed(batch_size=64, epochs=5),
    "mnist-1conv": _as_printed(batch_size=32, epochs=5),
    "mnist-1conv-linear": _as_printed(batch_size=128, epochs=10),
    "cats-vs-dogs": _as_printed(batch_size=32, epochs=10, validation_split=0.2),
}

#: The small case of the conformance tests.
TRIAL = Trial(
    model={
        "image_size": [8, 8], "filters": [4, 6], "pool": [True, False], "kernel_size": 2, "dense": [12],
        "dropout": 0.2, "normalization": "batch",
    },
    training={
        "epochs": 2, "batch_size": 4, "learning_rate": 0.002, "lr_schedule": "onecycle", "grad_clip": 5.0,
        "validation_split": 0.2, "augment": ["shift", "rotate", "erase"],
        "early_stopping": {"metric": "val_loss", "patience": 5},
    },
    inference=({"task": "predict"},),
)  # fmt: skip

FAMILY = Family(
    name="cnn",
    description="Convolutional classifiers of images.",
    is_default=True,
    model=CnnModel,
    default_preset="mnist-3conv-tuned",
    training_defaults=TRAINING_DEFAULTS,
    learners={
        "torch": "worker.families.cnn.torch_learner:build",
        "tensorflow": "worker.families.cnn.tensorflow_learner:build",
    },
    parts=replace(
        IMAGE_CLASSIFIER,
        export_onnx="worker.families.cnn.onnx_export:export",
        warm_up="worker.families.cnn.warm_up:run",
    ),
    dataset_kind="image",
    augmentations=frozenset({"shift", "rotate", "flip", "erase"}),
    watchable=frozenset({"loss", "val_loss", "accuracy", "val_accuracy"}),
    judged_by=CLASSIFIER_METRICS,
    metrics={"mean_squared_error": Metric("mean squared error", "min")},
    tasks=("predict",),
    classifies=True,
    features=("conv", "norm"),
    trial=TRIAL,
    loads=(1,),
)
