"""Hyper-parameters of training and early stopping."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nightshift.families import optimizers
from nightshift.families.fields import Probability, Spec, field_error
from nightshift.families.optimizers import OPTIMIZERS, Optimizer

LRSchedule = Literal["constant", "cosine", "onecycle", "plateau"]
Precision = Literal["auto", "float32", "bfloat16"]


class EarlyStopping(Spec):
    """Stop training when a metric no longer improves."""

    metric: Annotated[str, Field(max_length=100)] = "val_loss"
    patience: Annotated[int, Field(ge=1, le=10_000, description="Validations without improvement before stopping.")] = 3
    min_delta: Annotated[float, Field(ge=0)] = 0.0


def _nullable(schema: dict[str, Any]) -> None:
    """Let a field be null in the schema: parsing puts another value in its place."""
    kept = {name: schema.pop(name) for name in ("type", "exclusiveMinimum", "maximum") if name in schema}
    schema.update({"anyOf": [kept, {"type": "null"}], "default": None})


def _own(field: str) -> str:
    """Return each optimizer's own value of a field: `0.9 (rmsprop), 0.95 (adadelta)`."""
    names: dict[object, list[str]] = {}
    for name, one in OPTIMIZERS.items():
        names.setdefault(one.default(field), []).append(name)
    return ", ".join(f"{value:g} ({', '.join(found)})" for value, found in names.items() if value is not None)


_Share = Annotated[float, Field(ge=0, lt=1)]


class Training(Spec):
    """Hyper-parameters of training."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 5
    max_steps: (
        Annotated[int, Field(ge=1, le=2**40, description="Stop after this many steps, regardless of `epochs`.")] | None
    ) = None
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 64
    optimizer: Optimizer = optimizers.DEFAULT
    learning_rate: Annotated[
        float,
        Field(
            gt=0,
            le=1_000,
            description=f"Highest rate of the schedule; null: {_own('learning_rate')}.",
            json_schema_extra=_nullable,
        ),
    ] = OPTIMIZERS[optimizers.DEFAULT].learning_rate
    momentum: Annotated[_Share | None, Field(description=f"0 is plain gradient descent; null: {_own('momentum')}.")] = (
        None
    )
    nesterov: Annotated[bool, Field(description="Nesterov's momentum (sgd); false: the classical one.")] = True
    beta1: Annotated[
        _Share | None, Field(description=f"Decay of the mean of the gradients; null: {_own('beta1')}.")
    ] = None
    beta2: Annotated[
        _Share | None, Field(description=f"Decay of the mean of their squares; null: {_own('beta2')}.")
    ] = None
    rho: Annotated[_Share | None, Field(description=f"Decay of the mean of the squares; null: {_own('rho')}.")] = None
    epsilon: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Field(description=f"Added to the root that the step is divided by; null: {_own('epsilon')}."),
    ] = None
    weight_decay: Annotated[float, Field(ge=0, le=1_000)] = 0.0
    lr_schedule: Annotated[
        LRSchedule, Field(description="plateau: the rate falls when the watched metric has not improved.")
    ] = "constant"
    lr_factor: Annotated[float, Field(gt=0, lt=1, description="plateau: the rate is multiplied by it.")] = 0.1
    lr_patience: Annotated[
        int, Field(ge=1, le=10_000, description="plateau: validations without improvement before the rate falls.")
    ] = 2
    lr_min: Annotated[float, Field(ge=0, le=1_000, description="plateau: the rate does not fall below it.")] = 0.0
    warmup_steps: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    grad_clip: Annotated[float, Field(gt=0, description="Largest global norm of the gradients.")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    precision: Precision = "auto"
    validation_split: Probability = 0.1
    early_stopping: EarlyStopping | None = None
    augment: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=32)] = []

    @model_validator(mode="before")
    @classmethod
    def _null_is_no_rate(cls, data: Any) -> Any:
        if isinstance(data, dict) and "learning_rate" in data and data["learning_rate"] is None:
            return {name: value for name, value in data.items() if name != "learning_rate"}
        return data

    @model_validator(mode="after")
    def _own_rate(self) -> Training:
        """Fill in the optimizer's rate. The field counts as not set, so a preset's rate can take its place."""
        if "learning_rate" not in self.model_fields_set:
            object.__setattr__(self, "learning_rate", OPTIMIZERS[self.optimizer].learning_rate)
        return self

    @model_validator(mode="after")
    def _stoppable(self) -> Training:
        if self.early_stopping and self.early_stopping.metric.startswith("val_") and self.validation_split == 0:
            raise ValueError("early_stopping on a val_ metric needs validation_split above 0")
        return self

    @model_validator(mode="after")
    def _falls_before_the_end(self) -> Training:
        stopping = self.early_stopping
        if self.lr_schedule == "plateau" and stopping and self.lr_patience >= stopping.patience:
            message = f"must be less than early_stopping.patience ({stopping.patience}), or the run ends before"
            raise field_error("Training", ("lr_patience",), f"{message} the rate falls", self.lr_patience)
        return self
