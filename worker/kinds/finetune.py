"""`kind: finetune`: training that starts from another model's weights, in either framework.

The architecture (layers, sizes, tokenizer, columns of a table) stays the same; images are resized to it. If the data
set has other classes or tags, or has them in another order, the output layer alone is initialized anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightshift.families.learner import Learner
from shared.errors import BadData
from shared.specs.families import FAMILIES
from shared.specs.jobs import FinetuneJob, check_training
from worker import families
from worker.kinds.base_model import TrainedModel, fill, read_model, refuse
from worker.kinds.finishing import Unfinished
from worker.kinds.train import fit
from worker.runners.messages import Assignment, Stopped
from worker.training.reporter import Reporter


def run(assignment: Assignment, reporter: Reporter) -> Stopped | Unfinished:
    """Run the job. Raises JobError."""
    job = FinetuneJob.model_validate_json(json.dumps(assignment.spec))
    parent = read_model(assignment)
    refuse(check_training(parent.family, job.training))
    facts = {"frozen": _frozen(parent)} if job.freeze == "features" else {}

    def begin(learner: Learner, facts: Mapping[str, Any]) -> None:
        other = _other_outputs(parent.facts, facts)
        if fresh := fill(learner, parent.weights, FAMILIES[parent.family].head, new_head=other is not None):
            reporter.log(f"other {other or 'outputs'} than the model's: {', '.join(fresh)} are initialized anew")

    model = _fitted(parent, job.framework, assignment)
    return fit(
        assignment,
        reporter,
        job,
        model,
        begin=begin,
        facts=facts,
        tokenizer=parent.tokenizer,
        parent_facts=parent.facts,
    )


def _other_outputs(known: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
    """Return what outputs stand for if it differs between a model and the data, in its order too, else None."""
    return next((name for name in ("classes", "tags") if known.get(name) and facts.get(name) != known[name]), None)


def _frozen(parent: TrainedModel) -> tuple[str, ...]:
    features = FAMILIES[parent.family].features
    if not features or not any(name.startswith(features) for name in parent.weights):
        raise BadData("freeze: this model has no feature layers to freeze; use `none`")
    return features


def _fitted(parent: TrainedModel, framework: str, assignment: Assignment) -> Any:
    """Return the parent's spec for the framework, adapted to the data set by the family."""
    model = parent.spec(framework)
    adapted = families.optional_part(parent.family, "adapted")
    if adapted is None or assignment.dataset_dir is None:
        return model
    changes: Mapping[str, Any] = adapted(Path(assignment.dataset_dir), model)
    return model.model_copy(update=dict(changes))
