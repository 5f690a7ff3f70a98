"""Does a data set feed what a job would do with it? SQL knows much of both, so the answer comes with the submission.

Pure: facts in, objection out. What nobody has counted (the tokens of a long text, say) is left to the runner, which checks
everything again: the newest version may be another one by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nightshift.errors import FieldError
from shared.datasets.models import DatasetVersion
from shared.specs.cnn import CnnModel
from shared.specs.gru_lm import window_count
from shared.specs.jobs import FinetuneJob, TrainJob
from shared.specs.training import Training, held_out

#: Class names shown in a message.
_SHOWN = 5


def training_objection(
    spec: TrainJob | FinetuneJob, model: Mapping[str, Any] | None, data: DatasetVersion
) -> FieldError | None:
    """Why a model (its spec; None where it is not known) cannot be trained on this version as the job says, or None."""
    if data.summary["kind"] == "text":
        return _text_objection(spec, model, data)
    rows = _train_part(data)["count"]
    if rows < 2:
        return FieldError(("dataset",), f"{_ref(data)} has {rows} training images; at least two are needed")
    classes = len(data.summary["classes"])
    model_spec = spec.model if isinstance(spec, TrainJob) else None
    if isinstance(model_spec, CnnModel) and model_spec.output == "sigmoid" and classes != 2:
        message = f"`sigmoid` tells two classes apart and {_ref(data)} has {classes}; use softmax"
        return FieldError(("model", "output"), message)
    return _batch_objection(spec.training, rows, data, f"{_ref(data)} has {rows:,} training images")


def _text_objection(
    spec: TrainJob | FinetuneJob, model: Mapping[str, Any] | None, data: DatasetVersion
) -> FieldError | None:
    if model is None:
        return None
    tokens, counted = _tokens(data, model["tokenizer"], kept=isinstance(spec, FinetuneJob))
    rows, told = window_count(tokens, model["window"]), f"{'' if counted else 'at most '}{tokens:,} training tokens"
    if rows < 2:
        told = f"{_ref(data)} has {told}, fewer than two windows of {model['window']}"
        if isinstance(spec, FinetuneJob):
            return FieldError(("dataset",), f"{told}; take a longer text")
        return FieldError(("model", "window"), f"{told}; lower it")
    told = f"{_ref(data)} has {told}, which are {rows:,} windows of {model['window']}"
    return _batch_objection(spec.training, rows, data, told)


def _tokens(data: DatasetVersion, tokenizer: str, *, kept: bool) -> tuple[int, bool]:
    """(how many the training part has, True), or where nobody has counted (how many it has at most, False). A tokenizer
    that is `kept` cuts a text of words that were separated already as the text it was made from."""
    facts = _train_part(data)
    exactly = facts.get({"char": "characters", "word": "words"}.get(tokenizer, ""))
    if exactly is None or (tokenizer == "word" and kept and data.summary["tokenised"]):
        return int(facts["bytes"]), False
    return int(exactly), True


def _batch_objection(training: Training, rows: int, data: DatasetVersion, told: str) -> FieldError | None:
    taken = 0 if "valid" in data.summary["splits"] else held_out(rows, training.validation_split)
    left = rows - taken
    if training.batch_size <= left:
        return None
    told += f", {taken:,} of them for validation (training.validation_split)" if taken else ""
    return FieldError(
        ("training", "batch_size"), f"{training.batch_size} is more than there is: {told}; use at most {left}"
    )


def class_objection(
    known: Sequence[str], data: DatasetVersion, loc: tuple[str, ...], way_out: str
) -> FieldError | None:
    """Why a classifier of these classes cannot be measured on this version, or None."""
    unknown = [name for name in data.summary["classes"] if name not in known]
    if not unknown:
        return None
    message = f"{_ref(data)} has classes that the model does not know: {_names(unknown)}; it knows {_names(known)}"
    return FieldError(loc, f"{message}. {way_out}")


def _names(classes: Sequence[str]) -> str:
    return ", ".join(classes[:_SHOWN]) + (" …" if len(classes) > _SHOWN else "")


def _train_part(data: DatasetVersion) -> Mapping[str, Any]:
    part: Mapping[str, Any] = data.summary["splits"]["train"]
    return part


def _ref(data: DatasetVersion) -> str:
    return f"{data.name}@{data.version}"
