"""`kind: finetune`: the training pipeline, begun from another model's weights, in either framework.

What the model is (layers, sizes, tokenizer) stays as it was; images are brought to its size. Where the data set has
another number of classes, the output layer alone begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.errors import BadData
from shared.specs.jobs import FinetuneJob, check_training
from worker import families
from worker.kinds.base_model import TrainedModel, fill, read_model
from worker.kinds.train import fit
from worker.runners.messages import Assignment, Result, Stopped
from worker.training.learner import Learner
from worker.training.reporter import Reporter

#: The layer that belongs to the classes, in every family that has any.
HEAD = "output."


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped:
    """Raises JobError for what makes the job impossible."""
    job = FinetuneJob.model_validate_json(json.dumps(assignment.spec))
    parent = read_model(assignment)
    _check(job, parent)
    facts = {"frozen": _frozen(parent)} if job.freeze == "features" else {}

    def begin(learner: Learner) -> None:
        if fresh := fill(learner, parent.weights, HEAD):
            reporter.log(f"other classes than the model's own: {', '.join(fresh)} begin anew")

    model = _fitted(parent, job.framework, assignment)
    return fit(assignment, reporter, job, model, begin=begin, facts=facts, tokenizer=parent.tokenizer)


def _check(job: FinetuneJob, parent: TrainedModel) -> None:
    """Again what the API checked: an alias may have moved to a model of another family since."""
    if objection := check_training(parent.family, job.training):
        raise BadData(f"{'.'.join(map(str, objection.loc))}: {objection.msg}")


def _frozen(parent: TrainedModel) -> tuple[str, ...]:
    features: tuple[str, ...] = families.part(parent.family, "weights").FEATURES
    if not any(name.startswith(features) for name in parent.weights):
        raise BadData("freeze: this model has no feature layers to freeze; use `none`")
    return features


def _fitted(parent: TrainedModel, framework: str, assignment: Assignment) -> Any:
    """The parent's model in this framework, changed where the family says that the data set asks for it."""
    model = parent.spec(framework)
    adapted = getattr(families.part(parent.family, "data"), "adapted", None)
    if adapted is None or assignment.dataset_dir is None:
        return model
    changes: Mapping[str, Any] = adapted(Path(assignment.dataset_dir), model)
    return model.model_copy(update=dict(changes))
