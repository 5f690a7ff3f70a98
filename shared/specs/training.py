"""Training settings: hyper-parameters, early stopping, checkpoints, resources."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.specs.base import Count, Probability, Seconds, Spec

Augmentation = Literal["shift", "rotate", "flip", "erase", "word_dropout", "word_replacement"]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adadelta"]
LRSchedule = Literal["constant", "cosine", "onecycle"]
Watched = Literal[
    "val_loss", "val_accuracy", "val_perplexity", "val_frechet_distance", "loss", "accuracy", "perplexity"
]
Precision = Literal["auto", "float32", "bfloat16"]


class EarlyStopping(Spec):
    """Stop training when a metric no longer improves."""

    metric: Watched = "val_loss"
    patience: Annotated[int, Field(ge=1, le=10_000, description="Validations without improvement before stopping.")] = 3
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Training(Spec):
    """Hyper-parameters of training."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 5
    max_steps: (
        Annotated[int, Field(ge=1, le=2**40, description="Stop after this many steps, regardless of `epochs`.")] | None
    ) = None
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    optimizer: Optimizer = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=1_000)] = 0.001
    beta1: Annotated[float, Field(ge=0, lt=1, description="Decay of adam's first moment; null: 0.9.")] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1_000)] = 0.0
    lr_schedule: LRSchedule = "constant"
    warmup_steps: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    grad_clip: Annotated[float, Field(gt=0, description="Largest global norm of the gradients.")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    precision: Precision = "auto"
    validation_split: Probability = 0.1
    early_stopping: EarlyStopping | None = None
    augment: list[Augmentation] = []

    @model_validator(mode="after")
    def _stoppable(self) -> Training:
        if self.early_stopping and self.early_stopping.metric.startswith("val_") and self.validation_split == 0:
            raise ValueError("early_stopping on a val_ metric needs validation_split above 0")
        return self


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many optimizer steps see each row once; the last batch may be smaller."""
    return -(-rows // batch_size)


def held_out(rows: int, share: float) -> int:
    """Return the rows of a `validation_split`: at least one if the share is above 0, and never all."""
    return min(max(1, round(rows * share)), rows - 1) if share > 0 else 0


class CheckpointPolicy(Spec):
    """When checkpoints are written, and which are kept."""

    every_steps: Count | None = None
    every_seconds: Seconds | None = 60.0
    keep_last: Annotated[int, Field(ge=1, le=1_000)] = 2
    keep_best: bool = True


class Resources(Spec):
    """Device that a job requires."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    gpus: Annotated[int, Field(ge=1, le=1, description="One GPU per job.")] = 1
