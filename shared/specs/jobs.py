"""Job specs, selected by `kind`.

Parsing fills in presets and defaults, so that a stored spec is complete: the job runs the same after a preset changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from nightshift.errors import FieldError
from nightshift.families.family import Task
from nightshift.families.fields import Count, Spec, Width, field_error
from nightshift.families.optimizers import OPTIMIZERS, completed, foreign_constants
from nightshift.families.training import Training
from nightshift.metrics import sense
from nightshift.names import Framework
from shared.specs.base import DatasetRef, Label, ModelRef, Name, Seconds, SecretName
from shared.specs.families import FAMILIES, Model
from shared.specs.promotion import Promotion
from shared.specs.times import Time
from shared.specs.training import CheckpointPolicy, Resources


class JobBase(Spec):
    """Fields of all kinds of jobs."""

    name: Label | None = None
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    resources: Resources = Resources()
    priority: Annotated[
        int, Field(ge=0, le=9, description="Higher runs first; waiting raises the effective priority slowly.")
    ] = 5
    preempt: Annotated[
        bool, Field(description="Urgent: if no worker is free, it preempts a running job of lower priority.")
    ] = False
    run_at: Annotated[Time | None, Field(description="RFC 3339 time before which the job does not start.")] = None
    max_retries: Annotated[int, Field(ge=0, le=100)] = 2
    timeout_seconds: Seconds | None = None
    after: Annotated[list[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]], Field(max_length=100)] = []
    tags: Annotated[dict[Label, Label], Field(max_length=50)] = {}

    @model_validator(mode="after")
    def _can_be_a_gang(self) -> JobBase:
        if objection := check_gang(self):
            raise field_error("Job", objection.loc, objection.msg, None)
        return self


def check_gang(job: Any) -> FieldError | None:
    """Return why a job cannot use several devices, or None."""
    devices, place = job.resources.devices, ("resources", "devices")
    if devices == 1:
        return None
    if job.kind == "run":
        return None
    training = getattr(job, "training", None)
    if training is None:
        return FieldError(place, f"a job of kind {job.kind} uses one device; leave devices out")
    if training.batch_size < devices:
        message = f"is less than the {devices} devices, each of which takes its slice of a batch"
        return FieldError(("training", "batch_size"), message)
    return None


class TrainJob(JobBase):
    """Train a model on a data set."""

    kind: Literal["train"]
    dataset: DatasetRef
    model: Model
    training: Training = Training()
    register_as: Name | None = None
    promote: Promotion | None = None

    @model_validator(mode="before")
    @classmethod
    def _preset_training(cls, data: Any) -> Any:
        model = data.get("model") if isinstance(data, dict) else None
        training = data.get("training", {}) if isinstance(data, dict) else None
        if not isinstance(model, dict) or not isinstance(training, dict):
            return data
        family = FAMILIES.get(str(model.get("family", FAMILIES.default)))
        defaults = family.training_for(model.get("preset")) if family else {}
        stopping = training.get("early_stopping")
        if family and isinstance(stopping, dict):
            stopping = {"metric": family.watched, **stopping}
            training = {**training, "early_stopping": stopping}
            if str(stopping["metric"]).startswith("val_"):
                defaults = _held_out(defaults)
        return {**data, "training": completed(defaults, training)}

    @model_validator(mode="after")
    def _fits_family(self) -> TrainJob:
        objection = check_training(self.model.family, self.training) or check_promotion(self.model.family, self.promote)
        if objection:
            raise field_error("TrainJob", objection.loc, objection.msg, None)
        return self

    @model_validator(mode="after")
    def _registers(self) -> TrainJob:
        _check_registered(self.promote, self.register_as)
        return self


def _held_out(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a preset's defaults without that nothing is held out, for a job that needs a validation part."""
    return {name: value for name, value in defaults.items() if name != "validation_split" or value}


def _check_registered(promote: Promotion | None, register_as: str | None) -> None:
    if promote and register_as is None:
        raise field_error("Job", ("register_as",), "is required with promote: it names the model to promote", None)


def check_promotion(name: str, promote: Promotion | None) -> FieldError | None:
    """Return the first error of `promote` for a family, or None."""
    if promote is None:
        return None
    family = FAMILIES[name]
    better = sense(promote.metric)
    if promote.metric not in family.judged_by:
        known = ", ".join(family.judged_by)
        return FieldError(("promote", "metric"), f"{name} is not judged by {promote.metric!r}; it is by {known}")
    if promote.mode not in (None, better):
        return FieldError(("promote", "mode"), f"of {promote.metric} the better one is the {better}; leave mode out")
    if promote.confidence is not None and not family.resampled:
        return FieldError(("promote", "confidence"), f"{name} has no scores per example to resample; omit it")
    return None


def check_training(name: str, training: Training) -> FieldError | None:
    """Return the first error of `training` for a family, or None."""
    family = FAMILIES[name]
    for place, wanted in enumerate(training.augment):
        if wanted not in family.augmentations:
            known = ", ".join(sorted(family.augmentations)) or "none"
            message = f"{name} has no such augmentation; available: {known}"
            return FieldError(("training", "augment", place), message)
    stopping = training.early_stopping
    if stopping and stopping.metric not in family.watchable:
        known = ", ".join(sorted(family.watchable))
        message = f"{name} has no such metric during training; use one of {known}"
        return FieldError(("training", "early_stopping", "metric"), message)
    watched = stopping.metric if stopping else family.watched
    if training.lr_schedule == "plateau" and watched.startswith("val_") and training.validation_split == 0:
        message = f"plateau follows {watched}, which needs validation_split above 0"
        return FieldError(("training", "lr_schedule"), message)
    return None


def check_optimizer(training: Training) -> FieldError | None:
    """Return an error for the first constant that the optimizer does not have, or None.

    It is part of a submission only: stored specs of before have a `beta1` that other optimizers ignore.
    """
    for name in foreign_constants(training.model_dump()):
        having = ", ".join(optimizer for optimizer, one in OPTIMIZERS.items() if name in one.constants)
        message = f"{training.optimizer} has no {name}, only {having}; leave it out"
        return FieldError(("training", name), message)
    return None


class FinetuneJob(JobBase):
    """Continue the training of a registered model or of a job's model."""

    kind: Literal["finetune"]
    dataset: DatasetRef
    model_ref: ModelRef
    framework: Framework = "torch"
    freeze: Literal["none", "features"] = "none"
    training: Training = Training()
    register_as: Name | None = None
    promote: Promotion | None = None

    @model_validator(mode="after")
    def _registers(self) -> FinetuneJob:
        _check_registered(self.promote, self.register_as)
        return self


def with_training_defaults(spec: FinetuneJob, family: str) -> FinetuneJob:
    """Fill in the family's training defaults (learning rates of GANs and classifiers differ)."""
    given = spec.training.model_dump(exclude_unset=True)
    training = Training.model_validate(completed(FAMILIES[family].training_for(None), given))
    return spec.model_copy(update={"training": training})


#: Most shards of a batch inference. Too low: large clusters wait. Too high: most shards have no rows.
MAX_SHARDS = 64
#: Most rows of a batch of inference.
MAX_BATCH = 65_536
#: Rows of a batch of inference whose size is `auto`, and the least of a device that could compute more.
AUTO_BATCH = 256


def _number_or_auto(most: int) -> BeforeValidator:
    """Return a validator with one message for both."""

    def checked(value: Any) -> Any:
        if value != "auto" and not (type(value) is int and 1 <= value <= most):
            raise ValueError(f"use a number from 1 to {most}, or auto")
        return value

    return BeforeValidator(checked)


class Inference(Spec):
    """Settings of batch inference."""

    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=MAX_BATCH)] | Literal["auto"],
        _number_or_auto(MAX_BATCH),
        Field(
            description="Rows that are computed at a time; fewer if the memory of a GPU does not suffice. auto: "
            f"{AUTO_BATCH} on a CPU, as many as fit on a GPU."
        ),
    ] = "auto"
    framework: Framework = "torch"
    engine: Annotated[
        Literal["auto", "framework", "onnxruntime"],
        Field(
            description="What computes: the framework, or ONNX Runtime on a CPU. auto: ONNX Runtime where it is faster "
            "and agrees in the first batches."
        ),
    ] = "auto"
    shards: Annotated[
        Annotated[int, Field(ge=1, le=MAX_SHARDS)] | Literal["auto"],
        _number_or_auto(MAX_SHARDS),
        Field(
            description="In how many parts the rows are computed, each by any worker; the output is the same. auto: as "
            "many as workers are online that can run the job."
        ),
    ] = 1
    output: Literal["parquet", "jsonl"] = "parquet"
    task: Task = "predict"
    prompts: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(max_length=10_000)] = []
    max_new_tokens: Width = 100
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    count: Count = 64
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0

    @property
    def batch_rows(self) -> int:
        """Return the rows of a batch that chunks are made of, which do not depend on the device."""
        return AUTO_BATCH if self.batch_size == "auto" else self.batch_size

    @model_validator(mode="after")
    def _prompted(self) -> Inference:
        if self.prompts and self.task != "generate":
            raise field_error(
                "Inference", ("prompts",), f"{self.task} reads a data set; prompts require the task generate", None
            )
        return self


def why_no_onnx_runtime(name: str, task: str) -> str | None:
    """Return why ONNX Runtime cannot compute a task of a family's models, or None."""
    if FAMILIES[name].parts.export_onnx is None:
        return f"{name} has no ONNX network"
    # The other tasks need a learner's state or its random numbers.
    return None if task == "predict" else f"ONNX Runtime computes predict, not {task}"


def check_inference(name: str, inference: Inference) -> FieldError | None:
    """Return the first error of `inference` for a family, or None."""
    tasks = FAMILIES[name].tasks
    if inference.task not in tasks:
        message = f"{name} does not support {inference.task}; use {' or '.join(tasks)}"
        return FieldError(("inference", "task"), message)
    if inference.task == "generate" and FAMILIES[name].prompted and not inference.prompts:
        return FieldError(("inference", "prompts"), f'{name} continues prompts: give at least one, possibly empty ("")')
    if inference.engine == "onnxruntime" and (why := why_no_onnx_runtime(name, inference.task)):
        return FieldError(("inference", "engine"), f"{why}; use auto or framework")
    if inference.prompts and not FAMILIES[name].prompted:
        return FieldError(("inference", "prompts"), f"{name} takes no prompts; use `count` and `seed`")
    return None


class BatchInferJob(JobBase):
    """Apply a model to a data set. The task `generate` ignores `dataset`, which may be omitted."""

    kind: Literal["batch_infer"]
    dataset: DatasetRef | None = None
    model_ref: ModelRef
    inference: Inference = Inference()

    @model_validator(mode="after")
    def _has_inputs(self) -> BatchInferJob:
        if self.dataset is None and self.inference.task != "generate":
            raise field_error("BatchInferJob", ("dataset",), f"is required for the task {self.inference.task}", None)
        return self

    @model_validator(mode="after")
    def _computable(self) -> BatchInferJob:
        if self.inference.engine == "onnxruntime" and self.resources.device == "gpu":
            message = "onnxruntime computes on a CPU; use auto or framework, or leave out resources.device"
            raise field_error("BatchInferJob", ("inference", "engine"), message, self.inference.engine)
        return self


class EvaluateJob(JobBase):
    """Measure a model on the test part of a data set."""

    kind: Literal["evaluate"]
    dataset: DatasetRef
    model_ref: ModelRef
    framework: Framework = "torch"


class RunJob(JobBase):
    """Run a program that the operator has installed and allowed (`NIGHTSHIFT_PROGRAMS`)."""

    kind: Literal["run"]
    program: Annotated[Name, Field(description="Its name; `GET /v1/programs` lists them.")]
    params: Annotated[
        dict[str, Any], Field(description="The program's parameters; its schema is in `/v1/programs`.")
    ] = {}
    dataset: DatasetRef | None = None
    framework: Annotated[
        Framework | None, Field(description="The framework that the program needs; filled in from its declaration.")
    ] = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    secrets: Annotated[
        list[SecretName],
        Field(max_length=20, description="Secrets of the workers that the program gets as environment variables."),
    ] = []
    register_as: Name | None = None
    promote: Promotion | None = None

    @model_validator(mode="after")
    def _registers(self) -> RunJob:
        _check_registered(self.promote, self.register_as)
        return self


#: Jobs that train or use a model of a family.
LearnerJob = TrainJob | FinetuneJob | BatchInferJob | EvaluateJob
AnyJob = LearnerJob | RunJob

#: Kind -> its spec.
SPECS: dict[str, type[AnyJob]] = {
    "train": TrainJob,
    "finetune": FinetuneJob,
    "batch_infer": BatchInferJob,
    "evaluate": EvaluateJob,
    "run": RunJob,
}


def _by_kind(data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate as the one kind named, so that places of errors read `training.epochs`, not `train.training.epochs`."""
    if not isinstance(data, dict):
        return handler(data)
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in SPECS:
        problem = "is required" if "kind" not in data else "unknown kind"
        raise field_error("Job", ("kind",), f"{problem}; there are {', '.join(SPECS)}", kind)
    return SPECS[kind].model_validate(data)


#: A job as it is submitted, told apart by `kind`.
JobSpec = Annotated[AnyJob, Discriminator("kind"), WrapValidator(_by_kind)]
job_spec_adapter: TypeAdapter[AnyJob] = TypeAdapter(JobSpec)
