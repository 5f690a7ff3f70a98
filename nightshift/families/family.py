"""Model families: what an installed package declares of a kind of model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from nightshift.entry_points import check_reference
from nightshift.families.fields import ModelSpec
from nightshift.families.trial import Trial
from nightshift.metrics import Metric
from nightshift.names import FRAMEWORKS, DataKind, Framework

#: The group of the entry points that lead to families.
GROUP = "nightshift.families"

#: Tasks of batch inference.
Task = Literal["predict", "score", "generate"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a worker runs of a family beside its learners: each `"package.module:function"`.

    They are text, because only the process of a job may import them: a device that is opened before the fork is lost.
    Only `load_splits`, `load_test` and `report` are needed; without another one the job leaves that step out.
    """

    #: (dataset_dir, model, training) -> Splits. With `tokenizer=` in a fine-tuning of a model that has one.
    load_splits: str
    #: (dataset_dir, model, facts, tokenizer) -> Splits: a data set for evaluating a trained model.
    load_test: str
    #: (learner, splits, model, training) -> Evaluation: at the end of a job, on the test part.
    report: str
    #: (evaluation, history, folder, best_step) -> paths: PNG files beside the report.
    draw: str | None = None
    #: (learner, splits, model) -> PerExampleScores: scores of each row, for promotions.
    examples: str | None = None
    #: (learner, parent, inference, dataset_dir) -> Source: rows of batch inference.
    open_source: str | None = None
    #: (dataset_dir, model, training, facts) -> Splits: the data of fine-tuning a model with these facts. None: those of
    #: `load_splits`, which finds facts anew.
    load_tuning: str | None = None
    #: (dataset_dir, model) -> changes: what fine-tuning on a data set changes in the model.
    adapted: str | None = None
    #: (root, splits) -> paths: more files of a model.
    write_extras: str | None = None
    #: (learner, splits, model, training, job_dir, stop, log) -> AtEpoch: work after each epoch.
    start_epochs: str | None = None
    #: (job_dir, folder, last) -> paths: artifacts of that work.
    collect_epochs: str | None = None
    #: (model, weights, facts) -> bytes: the network as an ONNX file. In families with the task `predict` its one input
    #: takes the rows of the learner's `predict`, and its one output is what that returns; `weights` are canonical,
    #: `facts` those of `config.json`.
    export_onnx: str | None = None
    #: (framework, device, threads): a small run that loads kernels in a spare runner.
    warm_up: str | None = None

    def references(self) -> dict[str, str]:
        """Return the parts that there are."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}


#: The parts of a classifier of images. Its model has `image_size` and `image_channels`, its learner gets rows `x` uint8
#: [n, height, width, channels] and `y` int64 [n], and `predict` returns probabilities [n, classes].
IMAGE_CLASSIFIER = Parts(
    load_splits="worker.families.cnn.data:load_splits",
    load_test="worker.families.cnn.data:load_test",
    adapted="worker.training.classification.labels:adapted",
    report="worker.families.cnn.evaluation:report",
    examples="worker.training.classification.per_example:examples",
    draw="worker.families.cnn.plots:draw",
    open_source="worker.families.cnn.batch_inference:open_source",
)
#: The metrics of the test part that these parts give, for `judged_by`.
CLASSIFIER_METRICS = ("test_accuracy", "test_loss", "f1_macro", "precision_macro", "recall_macro", "auc_macro_ovr")


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models. Raises ValueError for a field that is wrong.

    Its module must import no framework: the API imports it for the settings. Presets are those of `model`.
    """

    name: str
    description: str = ""
    model: type[ModelSpec]
    default_preset: str
    #: Framework -> `"package.module:build"`, a function of a `LearnerSetup` that returns a `Learner`.
    learners: Mapping[Framework, str]
    parts: Parts
    #: The kind of data sets that it learns from: `image`, `text` or `table`.
    dataset_kind: DataKind
    #: Defaults of `training` per preset.
    training_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _NOTHING)
    augmentations: frozenset[str] = frozenset()
    #: Metrics that early stopping may watch.
    watchable: frozenset[str] = frozenset({"loss", "val_loss"})
    #: The metric that selects the best checkpoint, and the default of early stopping.
    watched: str = "val_loss"
    #: Metrics of the test part that a promotion may be decided by.
    judged_by: tuple[str, ...] = ()
    #: Whether they are made of one score per example, which can be resampled.
    resampled: bool = True
    #: Metrics of its own: label and better side.
    metrics: Mapping[str, Metric] = field(default_factory=lambda: _NOTHING)
    #: Tasks of batch inference that it supports.
    tasks: tuple[Task, ...] = ()
    #: Whether it tells the classes of a data set apart.
    classifies: bool = False
    #: Whether it generates what follows a prompt.
    prompted: bool = False
    #: Prefixes of the weights that `freeze: features` keeps, and of those that other classes begin anew.
    features: tuple[str, ...] = ()
    head: str = "output."
    #: Versions of Nightshift that it runs with, as a version specifier (`>=0.1,<1`); empty: all.
    requires: str = ""
    #: It changes when the state in checkpoints does. A build continues the checkpoints of another one only if `loads`
    #: lists their state version.
    state_version: int = 1
    loads: Sequence[int] = ()
    #: The family of a spec that names none.
    is_default: bool = False
    #: The small case that `nightshift families check` tries; None: the default preset on small data.
    trial: Trial | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"the name of a family is at most 16 of a-z, 0-9 and _, beginning with a letter; not {self.name!r}"
            )
        self._check_model()
        if not self.learners or not set(self.learners) <= set(FRAMEWORKS):
            raise ValueError(f"learners of the family {self.name!r} must be of {', '.join(FRAMEWORKS)}")
        for part, reference in (*self.learners.items(), *self.parts.references().items()):
            check_reference(f"{part} of the family {self.name!r}", reference)
        if self.trial is not None and self.trial.dataset is not None:
            check_reference(f"dataset of the trial of the family {self.name!r}", self.trial.dataset)
        if self.tasks and self.parts.open_source is None:
            raise ValueError(f"the family {self.name!r} has tasks of batch inference and no part open_source")
        if self.judged_by and self.parts.examples is None:
            raise ValueError(f"the family {self.name!r} is judged by metrics and has no part examples")
        for name, metric in self.metrics.items():
            if not isinstance(metric, Metric):
                raise ValueError(f"the metric {name!r} of the family {self.name!r} must be a Metric, not {metric!r}")
        if not isinstance(self.state_version, int):
            raise ValueError(f"state_version of the family {self.name!r} must be a whole number")

    def _check_model(self) -> None:
        expected = {"family": self.name, "preset": self.default_preset}
        for field_name, default in expected.items():
            if self.model.model_fields[field_name].default != default:
                raise ValueError(f"{field_name} of the model of the family {self.name!r} must default to {default!r}")
        unknown = {self.default_preset, *self.training_defaults} - self.presets.keys()
        if unknown:
            raise ValueError(f"the family {self.name!r} has no preset {', '.join(sorted(unknown))}")

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """The presets: complete settings of a model, by name."""
        return self.model.PRESETS

    @property
    def frameworks(self) -> list[str]:
        """The frameworks that it has a learner in."""
        return sorted(self.learners)

    def training_for(self, preset: object) -> Mapping[str, Any]:
        """Return the training defaults of a preset; empty for an unknown name, which parsing refuses later."""
        name = self.default_preset if preset is None else preset
        return self.training_defaults.get(name, {}) if isinstance(name, str) else {}

    def modules(self, framework: str) -> list[str]:
        """Return the modules that a runner of this framework imports."""
        found = [reference for name, reference in self.learners.items() if name == framework]
        return list(dict.fromkeys(one.partition(":")[0] for one in [*found, *self.parts.references().values()]))
