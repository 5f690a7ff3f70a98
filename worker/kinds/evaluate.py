"""`kind: evaluate`: a trained model evaluated on a data set's test part, with the plots of a training."""

from __future__ import annotations

import json
import os
from pathlib import Path

from nightshift.families.learner import Splits
from nightshift.families.training import Training
from shared.errors import BadData
from shared.specs.jobs import EvaluateJob
from worker import families
from worker.kinds.base_model import build, read_model
from worker.kinds.finishing import Unfinished
from worker.runners.messages import Assignment, Result, Started, Stopped
from worker.training import training_log
from worker.training.progress import ProgressMeter
from worker.training.reporter import Reporter


def run(assignment: Assignment, reporter: Reporter) -> Stopped | Unfinished:
    """Run the job. It can stop before and after the evaluation. Raises JobError."""
    job = EvaluateJob.model_validate_json(json.dumps(assignment.spec))
    parent = read_model(assignment)
    if assignment.dataset_dir is None:
        raise BadData(f"the data set {job.dataset!r} has no folder on this worker")
    load_test = families.part(parent.family, "load_test")
    splits: Splits = load_test(Path(assignment.dataset_dir), parent.model, parent.facts, parent.tokenizer)
    learner = build(parent, job.framework, assignment, assignment.threads)
    reporter.started(Started(pid=os.getpid(), device=assignment.device, total_steps=1))
    reporter.log(training_log.environment(job.framework, assignment, assignment.threads))
    reporter.log(training_log.model(parent.model, learner))
    for note in splits.notes:
        reporter.log(note)
    meter = ProgressMeter(1, 1, 0, reporter, phase="write")
    if (reason := reporter.stop_requested()) and reason != "finish":
        return Stopped(reason=reason)
    model = parent.spec(job.framework)
    with meter.phase("evaluate"):
        report = families.part(parent.family, "report")(learner, splits, model, Training())
    if (reason := reporter.stop_requested()) and reason != "finish":
        return Stopped(reason=reason)
    reporter.log(f"on the test part: {training_log.measures(report.metrics)}")
    meter.stepped(1, 0)
    return Unfinished(Result(metrics=report.metrics, step=1), parent.family, report, [])
