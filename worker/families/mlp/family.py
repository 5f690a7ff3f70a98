"""Multilayer perceptrons on tables. A preset is a complete model but for its target; fields override its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nightshift.errors import FieldError
from nightshift.families.family import CLASSIFIER_METRICS, Family, Parts
from nightshift.families.fields import COLUMN, ModelSpec, Probability, Width
from nightshift.families.layers import Layer
from nightshift.families.trial import Trial
from nightshift.names import Framework
from worker.families.mlp import summaries
from worker.families.mlp.tasks import LOSSES, Loss, TableTask, task_of_loss
from worker.families.mlp.weights import layers_of

Activation = Literal["relu", "sigmoid", "tanh", "linear"]
ColumnName = Annotated[str, Field(min_length=1, max_length=200, json_schema_extra={"format": COLUMN})]

#: The metrics of the test part that models of each task are judged by.
JUDGED_BY: Mapping[TableTask, tuple[str, ...]] = {
    "classes": CLASSIFIER_METRICS,
    "numbers": ("test_r2", "test_mae", "test_rmse"),
}
#: The metrics that early stopping can watch, beside the losses.
_WATCHED: Mapping[TableTask, tuple[str, ...]] = {
    "classes": ("accuracy", "val_accuracy"),
    "numbers": ("val_r2", "val_mae", "val_rmse"),
}


class MlpModel(ModelSpec):
    """Multilayer perceptron on the columns of a table.

    columns -> [dense -> activation -> dropout] x n -> output. Without hidden layers: linear or logistic regression.
    """

    family: Literal["mlp"] = "mlp"
    framework: Framework = "torch"
    preset: str = "mlp-2x64"
    target: Annotated[ColumnName | None, Field(description="The column to predict; must be given.")] = None
    features: Annotated[
        list[ColumnName] | None,
        Field(min_length=1, max_length=10_000, description="The columns to learn from; null: all others."),
    ] = None
    categorical: Annotated[
        list[ColumnName] | None,
        Field(
            max_length=10_000, description="Columns that hold categories; null: those of text and of true and false."
        ),
    ] = None
    task: Annotated[
        TableTask | None,
        Field(description="What the target holds; null: from its type, whole numbers of few values are classes."),
    ] = None
    hidden: Annotated[list[Width], Field(max_length=16, description="Units of each hidden layer; []: a linear model.")]
    activation: Activation
    dropout: Annotated[Probability, Field(description="Share of each hidden layer's outputs dropped in training.")]
    loss: Annotated[
        Loss | None, Field(description="null: cross_entropy for classes, mean_squared_error for numbers.")
    ] = None

    @model_validator(mode="after")
    def _consistent(self) -> MlpModel:
        if self.task and self.loss and self.loss not in LOSSES[self.task]:
            raise ValueError(f"the loss {self.loss} is not one of {self.task}; use {' or '.join(LOSSES[self.task])}")
        if self.target is not None and self.target in (self.features or ()):
            raise ValueError(f"features must not name the target {self.target!r}")
        both = None if self.features is None else (self.target, *self.features)
        for name in self.categorical or ():
            if both is not None and name not in both:
                raise ValueError(f"categorical names {name!r}, which is not one of features")
        return self

    @property
    def wanted_task(self) -> TableTask | None:
        """The task that the settings decide; None: the target's type does."""
        return self.task or (task_of_loss(self.loss) if self.loss else None)

    def unfit(self, dataset: str, summary: Mapping[str, Any]) -> FieldError | None:
        return summaries.objection(self, dataset, summary)

    def lacks(self, metric: str, summary: Mapping[str, Any]) -> str | None:
        task = summaries.task(self, summary)
        if task is None:
            return None
        other: TableTask = "numbers" if task == "classes" else "classes"
        only_other = {*JUDGED_BY[other], *_WATCHED[other]} - {*JUDGED_BY[task], *_WATCHED[task]}
        known = JUDGED_BY[task] if metric.startswith("test_") or metric in JUDGED_BY[other] else _WATCHED[task]
        return f"a model of {task} has no {metric}; use {' or '.join(known)}" if metric in only_other else None

    def most_rows(self, summary: Mapping[str, Any], validation_split: float) -> int | None:
        return summaries.most_rows(self, summary, validation_split)

    def expected_facts(self, summary: Mapping[str, Any] | None) -> Mapping[str, Any]:
        return summaries.expected_facts(self, summary)

    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer]:
        return layers_of(self, facts)


PRESETS: dict[str, dict[str, Any]] = {
    "mlp-2x64": {"hidden": [64, 64], "activation": "relu", "dropout": 0.2},
    "linear": {"hidden": [], "activation": "linear", "dropout": 0.0},
}
MlpModel.PRESETS = PRESETS

#: Training defaults of each preset. A linear model has one optimum, which larger steps reach sooner.
TRAINING_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp-2x64": {"epochs": 50, "batch_size": 32, "lr_schedule": "cosine"},
    "linear": {"epochs": 100, "batch_size": 32, "learning_rate": 0.01, "lr_schedule": "cosine"},
}

#: The small case of the conformance tests.
TRIAL = Trial(
    model={"target": "kind", "hidden": [12, 8], "activation": "tanh", "dropout": 0.2},
    training={
        "epochs": 3, "batch_size": 32, "learning_rate": 0.005, "lr_schedule": "onecycle", "grad_clip": 5.0,
        "validation_split": 0.2, "early_stopping": {"metric": "val_loss", "patience": 5},
    },
    inference=({"task": "predict"},),
    gpu_tolerance=1e-3,  # without bfloat16
)  # fmt: skip

FAMILY = Family(
    name="mlp",
    description="Perceptrons, linear and logistic regression on tables.",
    model=MlpModel,
    default_preset="mlp-2x64",
    training_defaults=TRAINING_DEFAULTS,
    learners={
        "torch": "worker.families.mlp.torch_learner:build",
        "tensorflow": "worker.families.mlp.tensorflow_learner:build",
    },
    parts=Parts(
        load_splits="worker.families.mlp.data:load_splits",
        load_tuning="worker.families.mlp.data:load_tuning",
        load_test="worker.families.mlp.data:load_test",
        report="worker.families.mlp.evaluation:report",
        examples="worker.families.mlp.per_example:examples",
        draw="worker.families.mlp.plots:draw",
        open_source="worker.families.mlp.batch_inference:open_source",
        export_onnx="worker.families.mlp.onnx_export:export",
    ),
    dataset_kind="table",
    watchable=frozenset({"loss", "val_loss", *_WATCHED["classes"], *_WATCHED["numbers"]}),
    judged_by=(*JUDGED_BY["classes"], *JUDGED_BY["numbers"]),
    tasks=("predict",),
    features=("dense",),
    trial=TRIAL,
    loads=(1,),
)
