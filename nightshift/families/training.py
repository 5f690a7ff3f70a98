"""Hyper-parameters of training and early stopping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nightshift.families.fields import Probability, Spec

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adadelta"]
LRSchedule = Literal["constant", "cosine", "onecycle"]
Precision = Literal["auto", "float32", "bfloat16"]


class EarlyStopping(Spec):
    """Stop training when a metric no longer improves."""

    metric: Annotated[str, Field(max_length=100)] = "val_loss"
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
    augment: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=32)] = []

    @model_validator(mode="after")
    def _stoppable(self) -> Training:
        if self.early_stopping and self.early_stopping.metric.startswith("val_") and self.validation_split == 0:
            raise ValueError("early_stopping on a val_ metric needs validation_split above 0")
        return self
