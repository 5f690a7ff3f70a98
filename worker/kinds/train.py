"""`kind: train`: data, learner, resume, training loop, test of the best weights, model and its comparison."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightshift.families.learner import Learner, LearnerSetup, Splits
from shared.errors import BadData
from shared.job_files import checkpoint_files
from shared.jobs.states import WRITING
from shared.specs.families import FAMILIES
from shared.specs.jobs import FinetuneJob, TrainJob
from worker import families
from worker.kinds import promotion
from worker.kinds.finishing import Unfinished
from worker.onnx_models import export
from worker.runners.messages import Assignment, Result, Started, Stopped
from worker.training import artifacts, gang, model_summary, training_log
from worker.training.checkpoints import CheckpointWriter, Restored, restore
from worker.training.numerics.allocator import keep_freed_memory
from worker.training.reporter import Reporter
from worker.training.state import RunState
from worker.training.trainer import AtEpoch, Plan, Trainer


def run(assignment: Assignment, reporter: Reporter) -> Stopped | Unfinished:
    """Run the job. Raises JobError."""
    job = TrainJob.model_validate_json(json.dumps(assignment.spec))
    return fit(assignment, reporter, job, job.model)


def fit(
    assignment: Assignment,
    reporter: Reporter,
    job: TrainJob | FinetuneJob,
    model: Any,
    *,
    begin: Callable[[Learner, Mapping[str, Any]], None] | None = None,
    facts: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
    parent_facts: Mapping[str, Any] | None = None,
) -> Stopped | Unfinished:
    """Train and evaluate `model`.

    `begin` loads initial weights into the learner of a new run and gets its facts, too. `facts` are added to them,
    `tokenizer` is the text of a `tokenizer.json` to keep, and `parent_facts` are those of the model that is fine-tuned.
    """
    keep_freed_memory()
    job_dir = Path(assignment.job_dir)
    checkpoint_files.sweep(job_dir, fence=assignment.fence)
    splits = _load_data(assignment, model, job, tokenizer, parent_facts)
    run = _Run(assignment, reporter, job, model, splits, {**splits.facts, **(facts or {})})
    restored, damaged = restore(job_dir, assignment.resume)
    threads = (restored.threads if restored else None) or assignment.threads
    learner = _build(run, threads)
    gang.make_own_draws(gang.current(), learner)
    if restored:
        learner.load_state(restored.learner)
    elif begin is not None:
        begin(learner, run.facts)
    leads = gang.current().rank == 0
    writer = CheckpointWriter(job_dir, assignment.fence, reporter) if leads else gang.FollowingWriter()
    state = restored.run if restored else RunState()
    reporter.started(_started(run, restored, damaged))
    _log_start(run, learner, threads, restored, damaged)
    at_epoch = _at_epoch(run, learner, job_dir)
    watched = FAMILIES[model.family].watched
    loop = Trainer(
        learner, run.splits, job.training, job.checkpoint, writer, reporter, state, watched=watched, at_epoch=at_epoch
    )
    try:
        ending = loop.run()
    finally:
        with loop.progress.phase("checkpoint"):
            writer.wait()
    if ending not in ("completed", "finish") or not leads:
        return Stopped(reason=ending, step=state.step)
    return _conclude(run, loop)


@dataclass(frozen=True)
class _Run:
    """A job with its data."""

    assignment: Assignment
    reporter: Reporter
    job: TrainJob | FinetuneJob
    model: Any
    splits: Splits
    #: Those of the learner: of the data, and of the job.
    facts: Mapping[str, Any]

    @property
    def plan(self) -> Plan:
        return Plan(self.job.training, self.splits.length)


def _log_start(run: _Run, learner: Learner, threads: int | None, restored: Restored | None, damaged: list[str]) -> None:
    """Log the environment, data, model and plan at the start."""
    log, plan = run.reporter.log, run.plan
    log(training_log.environment(run.model.framework, run.assignment, threads))
    log(training_log.data(run.assignment, run.splits))
    for note in run.splits.notes:
        log(note)
    log(training_log.model(run.model, learner))
    log(training_log.plan(run.job.training, plan.steps_per_epoch, plan.total_steps))
    if warning := training_log.continued(run.assignment):
        log(warning, "warning")
    if restored and (warning := training_log.regrouped(restored.devices, gang.current().size)):
        log(warning, "warning")
    for checkpoint in damaged:
        log(f"checkpoint {checkpoint} does not match its hash and is quarantined", "warning")
    if restored:
        step = restored.run.step
        log(f"resumes from the checkpoint of step {step:,} of {plan.total_steps:,} (epoch {plan.epoch(step)})")


def _load_data(
    assignment: Assignment,
    model: Any,
    job: TrainJob | FinetuneJob,
    tokenizer: str | None,
    parent_facts: Mapping[str, Any] | None,
) -> Splits:
    if assignment.dataset_dir is None:
        raise BadData(f"the data set {job.dataset!r} has no folder on this worker")
    load_tuning = families.optional_part(model.family, "load_tuning") if parent_facts is not None else None
    splits: Splits
    if load_tuning is not None:
        splits = load_tuning(Path(assignment.dataset_dir), model, job.training, parent_facts)
    else:
        extra = {} if tokenizer is None else {"tokenizer": tokenizer}
        splits = families.part(model.family, "load_splits")(Path(assignment.dataset_dir), model, job.training, **extra)
    if job.training.batch_size > splits.length:
        raise BadData(
            f"training.batch_size {job.training.batch_size} is larger than the {splits.length} rows trained on; "
            f"use at most {splits.length}"
        )
    return splits


def _build(run: _Run, threads: int | None) -> Learner:
    setup = LearnerSetup(run.model, run.job.training, run.plan.total_steps, run.assignment.device, threads, run.facts)
    return families.load(run.model.family, run.model.framework)(setup)


def _at_epoch(run: _Run, learner: Learner, job_dir: Path) -> AtEpoch | None:
    """Return the family's action after each epoch, if it has one."""
    start = families.optional_part(run.model.family, "start_epochs")
    if start is None:
        return None

    def stop() -> bool:
        return run.reporter.stop_requested() is not None

    begun: AtEpoch = start(learner, run.splits, run.model, run.job.training, job_dir, stop, run.reporter.log)
    return begun


def _started(run: _Run, restored: Restored | None, damaged: list[str]) -> Started:
    return Started(
        pid=os.getpid(),
        device=run.assignment.device,
        resumed_from=restored.point.id if restored else None,
        resumed_step=restored.run.step if restored else None,
        quarantined=damaged,
        total_steps=run.plan.total_steps,
    )


# -- the end of the job ---------------------------------------------------------------------------


def _conclude(run: _Run, loop: Trainer) -> Unfinished:
    """Test the best model, write it and compare it with the champion. The rest needs no device."""
    family, learner, state, root = run.model.family, loop.learner, loop.state, artifacts.folder(run.assignment)
    loop.progress.enter(WRITING)
    if state.best.weights is not None:
        learner.load_weights(state.best.weights)
    with loop.progress.phase("evaluate"):
        report = families.part(family, "report")(learner, run.splits, run.model, run.job.training)
    of = f"the best model (step {state.best.step:,})" if state.best.step else "the model"
    run.reporter.log(f"{of} on the test part: {training_log.measures(report.metrics)}")
    weights = learner.weights()
    paths = artifacts.write_model(root, weights, run.model, run.splits.facts)
    paths += export.write(root, run.model, weights, run.splits.facts, run.reporter.log)
    paths += model_summary.write(root, run.model, weights, run.facts, run.reporter.log)
    if write_extras := families.optional_part(family, "write_extras"):
        paths += write_extras(root, run.splits)
    with loop.progress.phase("evaluate"):
        comparison = promotion.compare_with_champion(run.assignment, run.reporter, run.job, learner, root / "model")
    model = {"family": family, "framework": run.model.framework, "path": "model"}
    metrics = {**report.metrics, **state.figures()}
    return Unfinished(
        Result(metrics=metrics, model=model, step=state.step, comparison=comparison),
        family,
        report,
        [path.relative_to(root).as_posix() for path in paths],
        state.history,
        state.best.step,
        loop.plan.finished_epochs(state.step),
    )
