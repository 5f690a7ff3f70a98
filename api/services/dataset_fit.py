"""Checks that a data set fits a job, as far as SQL has the facts of both.

Pure functions that take facts and return an objection. Facts that have not been counted (the tokens of a long text) are
left to the runner, which checks everything again: the newest version may have changed by then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from nightshift.errors import FieldError
from nightshift.families.family import Family
from nightshift.families.fields import ModelSpec
from nightshift.families.training import Training
from nightshift.names import TABLE, TEXT, data_of
from shared.datasets.builtins import BUILTIN_KIND
from shared.datasets.models import DatasetVersion
from shared.datasets.token_counts import window_count
from shared.specs.families import FAMILIES
from shared.specs.jobs import AnyJob, BatchInferJob, EvaluateJob, FinetuneJob, TrainJob
from shared.specs.training import held_out

#: Largest number of class names in a message.
_SHOWN = 5


@dataclass(frozen=True)
class Facts:
    """Facts from SQL about the model and data sets that a spec names."""

    family: str
    #: What the job that made the model has pinned of its family's package.
    made_by: Mapping[str, Any] = field(default_factory=dict)
    #: The spec of the model to train; None if unknown.
    model: Mapping[str, Any] | None = None
    #: The classes of the classifier to evaluate; None if unknown.
    classes: Sequence[str] | None = None
    #: None if the job reads no data set, or one that a worker has yet to register.
    dataset: DatasetVersion | None = None
    #: The version that `promote.evaluate_on` names.
    judged_on: DatasetVersion | None = None


def objection(spec: AnyJob, facts: Facts) -> FieldError | None:
    """Return why the runner would reject the job, or None."""
    return _kind_objection(spec, facts) or _data_objection(spec, facts) or _promotion_objection(spec, facts)


def _kind_objection(spec: AnyJob, facts: Facts) -> FieldError | None:
    if spec.dataset is None or (isinstance(spec, BatchInferJob) and spec.inference.task == "generate"):
        return None
    return _kind_of_family(facts.family, facts.dataset)


def _kind_of_family(family: str, data: DatasetVersion | None) -> FieldError | None:
    kind, wanted = data.summary["kind"] if data else BUILTIN_KIND, FAMILIES[family].dataset_kind
    if kind == wanted:
        return None
    return FieldError(("dataset",), f"holds {data_of(kind)}; {family} learns from {data_of(wanted)}")


def model_objection(model: ModelSpec, data: DatasetVersion | None) -> FieldError | None:
    """Return why a model does not fit a data set, or None. None of `data`: a built-in set that is not registered."""
    return _kind_of_family(model.family, data) or (_unfit(model, data) if data else None)


def learners_of(data: DatasetVersion) -> list[str]:
    """Return the families that can learn from a version, if their settings are chosen for it."""
    return [name for name in FAMILIES.offered if _may_learn(FAMILIES[name], data)]


def _may_learn(family: Family, data: DatasetVersion) -> bool:
    if data.summary["kind"] != family.dataset_kind:
        return False
    try:
        unfit = family.model.model_validate({}).unfit(_ref(data), data.summary)
    except Exception:  # an own family's code; a job says what is wrong
        return True
    return unfit is None or unfit.loc[:1] != ("family",)


def _unfit(model: ModelSpec, data: DatasetVersion) -> FieldError | None:
    found = model.unfit(_ref(data), data.summary)
    return None if found is None else FieldError(("model", *found.loc), found.msg)


def _data_objection(spec: AnyJob, facts: Facts) -> FieldError | None:
    if facts.dataset is None:
        return None
    if isinstance(spec, TrainJob | FinetuneJob):
        return training_objection(spec, facts.model, facts.dataset)
    if isinstance(spec, EvaluateJob) and facts.classes is not None:
        return class_objection(facts.classes, facts.dataset, ("dataset",), "Fine-tune it on this data set first")
    return None


def _promotion_objection(spec: AnyJob, facts: Facts) -> FieldError | None:
    """Return why the model cannot be evaluated on `promote.evaluate_on`, or None."""
    if not isinstance(spec, TrainJob | FinetuneJob) or spec.promote is None:
        return None
    place, data, family = ("promote", "evaluate_on"), facts.judged_on, FAMILIES[facts.family]
    if data is None:
        ref = spec.promote.evaluate_on
        return FieldError(place, f"{ref!r} has no version yet: the first job that names it makes one")
    kind, wanted = data.summary["kind"], family.dataset_kind
    if kind != wanted:
        return FieldError(place, f"holds {data_of(kind)}; {facts.family} is judged on {data_of(wanted)}")
    model = _model_of(spec, facts.model)
    trained_on = (facts.dataset or data).summary
    if model is not None and (why := model.lacks(spec.promote.metric, trained_on)) is not None:
        return FieldError(("promote", "metric"), why)
    if family.classifies and facts.dataset is not None:
        return class_objection(facts.dataset.summary["classes"], data, place, "Name a data set of the same classes")
    return None


def training_objection(
    spec: TrainJob | FinetuneJob, model: Mapping[str, Any] | None, data: DatasetVersion
) -> FieldError | None:
    """Return why a model (its spec, if known) cannot be trained on this version with the job's settings, or None."""
    if data.summary["kind"] == TABLE:
        return _table_objection(spec, _model_of(spec, model), data)
    if (unfit := _unfit_for(spec, model, data)) is not None:
        return unfit
    is_text = data.summary["kind"] == TEXT
    if is_text and model is None:
        return None
    if model is not None and {"tokenizer", "window"} <= model.keys():
        return _text_objection(spec, model, data)
    rows, noun = _train_part(data)["count"], "texts" if is_text else "images"
    if rows < 2:
        return FieldError(("dataset",), f"{_ref(data)} has {rows} training {noun}; at least two are needed")
    return _batch_objection(spec.training, rows, data, f"{_ref(data)} has {rows:,} training {noun}")


def _unfit_for(
    spec: TrainJob | FinetuneJob, model: Mapping[str, Any] | None, data: DatasetVersion
) -> FieldError | None:
    """Return what the model's spec objects to. Fine-tuning adapts settings, but no other family can be chosen."""
    if isinstance(spec, TrainJob):
        return _unfit(spec.model, data)
    parent = _model_of(spec, model)
    unfit = None if parent is None else parent.unfit(_ref(data), data.summary)
    return FieldError(("dataset",), unfit.msg) if unfit and unfit.loc == ("family",) else None


def _model_of(spec: TrainJob | FinetuneJob, model: Mapping[str, Any] | None) -> ModelSpec | None:
    """Return the model to train, of a fine-tuning that of its parent; None if it is not known."""
    if isinstance(spec, TrainJob):
        return spec.model
    family = FAMILIES.get(str((model or {}).get("family")))
    try:
        return None if family is None else family.model.model_validate_json(json.dumps(model))
    except ValidationError:  # of a job that another version accepted
        return None


def _table_objection(spec: TrainJob | FinetuneJob, model: ModelSpec | None, data: DatasetVersion) -> FieldError | None:
    if model is None:
        return None
    if (unfit := model.unfit(_ref(data), data.summary)) is not None:
        own = isinstance(spec, TrainJob)
        return FieldError(("model", *unfit.loc) if own else ("dataset",), unfit.msg)
    stopping = spec.training.early_stopping
    if stopping and (why := model.lacks(stopping.metric, data.summary)) is not None:
        return FieldError(("training", "early_stopping", "metric"), why)
    rows = model.most_rows(data.summary, spec.training.validation_split)
    if rows is None or spec.training.batch_size <= rows:
        return None
    message = f"{spec.training.batch_size} is too large: {_ref(data)} has at most {rows:,} rows to train on"
    return FieldError(("training", "batch_size"), message)


def _text_objection(spec: TrainJob | FinetuneJob, model: Mapping[str, Any], data: DatasetVersion) -> FieldError | None:
    tokens, counted = _tokens(data, model["tokenizer"], kept=isinstance(spec, FinetuneJob))
    rows, size = window_count(tokens, model["window"]), f"{'' if counted else 'at most '}{tokens:,} training tokens"
    if rows < 2:
        message = f"{_ref(data)} has {size}, fewer than two windows of {model['window']}"
        if isinstance(spec, FinetuneJob):
            return FieldError(("dataset",), f"{message}; use a longer text")
        return FieldError(("model", "window"), f"{message}; lower it")
    size = f"{_ref(data)} has {size}, which are {rows:,} windows of {model['window']}"
    return _batch_objection(spec.training, rows, data, size)


def _tokens(data: DatasetVersion, tokenizer: str, *, kept: bool) -> tuple[int, bool]:
    """Return (number of training tokens, True), or (upper bound, False) if they have not been counted.

    A `kept` tokenizer splits a pre-tokenized text like the text that it was fitted on.
    """
    facts = _train_part(data)
    exactly = facts.get({"char": "characters", "word": "words"}.get(tokenizer, ""))
    if exactly is None or (tokenizer == "word" and kept and data.summary["tokenised"]):
        return int(facts["bytes"]), False
    return int(exactly), True


def _batch_objection(training: Training, rows: int, data: DatasetVersion, size: str) -> FieldError | None:
    taken = 0 if "valid" in data.summary["splits"] else held_out(rows, training.validation_split)
    left = rows - taken
    if training.batch_size <= left:
        return None
    size += f", {taken:,} of them for validation (training.validation_split)" if taken else ""
    return FieldError(("training", "batch_size"), f"{training.batch_size} is too large: {size}; use at most {left}")


def class_objection(known: Sequence[str], data: DatasetVersion, loc: tuple[str, ...], remedy: str) -> FieldError | None:
    """Return why a classifier of these classes cannot be evaluated on this version, or None."""
    unknown = [name for name in data.summary["classes"] if name not in known]
    if not unknown:
        return None
    message = f"{_ref(data)} has classes that the model does not know: {_names(unknown)}; it knows {_names(known)}"
    return FieldError(loc, f"{message}. {remedy}")


def _names(classes: Sequence[str]) -> str:
    return ", ".join(classes[:_SHOWN]) + (" …" if len(classes) > _SHOWN else "")


def _train_part(data: DatasetVersion) -> Mapping[str, Any]:
    part: Mapping[str, Any] = data.summary["splits"]["train"]
    return part


def _ref(data: DatasetVersion) -> str:
    return f"{data.name}@{data.version}"
