"""`kind: train`: data, learner, resume, training loop, test of the best weights, model and plots."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import BadData
from shared.job_files import checkpoint_files
from shared.specs.families import FAMILIES
from shared.specs.jobs import FinetuneJob, TrainJob
from worker import families
from worker.kinds import promotion
from worker.runners.messages import Assignment, Result, Started, Stopped
from worker.training import artifacts, tensorboard, training_log
from worker.training.checkpoints import CheckpointWriter, Restored, restore
from worker.training.learner import Learner, LearnerSetup, Splits
from worker.training.numerics.allocator import keep_freed_memory
from worker.training.reporter import Reporter
from worker.training.state import RunState
from worker.training.trainer import AtEpoch, Plan, Trainer


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped:
    """Run the job. Raises JobError."""
    job = TrainJob.model_validate_json(json.dumps(assignment.spec))
    return fit(assignment, reporter, job, job.model)


def fit(
    assignment: Assignment,
    reporter: Reporter,
    job: TrainJob | FinetuneJob,
    model: Any,
    *,
    begin: Callable[[Learner], None] | None = None,
    facts: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
) -> Result | Stopped:
    """Train `model` and return its result.

    `begin` loads initial weights into the learner of a new run, `facts` are added to the learner's, `tokenizer` is the
    text of a `tokenizer.json` to keep.
    """
    keep_freed_memory()
    job_dir = Path(assignment.job_dir)
    checkpoint_files.sweep(job_dir, fence=assignment.fence)
    splits = _load_data(assignment, model, job, tokenizer)
    restored, damaged = restore(job_dir, assignment.resume)
    learner = _build(assignment, job, model, splits, restored, facts or {})
    if restored is None and begin is not None:
        begin(learner)
    writer = CheckpointWriter(job_dir, assignment.fence, reporter)
    state = restored.run if restored else RunState()
    reporter.started(_started(assignment, learner, restored, damaged, Plan(job.training, splits.length).total_steps))
    _log_start(assignment, reporter, job, model, learner, splits, restored, damaged)
    at_epoch = _at_epoch(learner, splits, model, job, job_dir, reporter)
    watched = FAMILIES[model.family].watched
    loop = Trainer(
        learner, splits, job.training, job.checkpoint, writer, reporter, state, watched=watched, at_epoch=at_epoch
    )
    try:
        ending = loop.run()
    finally:
        with loop.progress.phase("checkpoint"):
            writer.wait()
    if ending not in ("completed", "finish"):
        return Stopped(reason=ending, step=state.step)
    return _conclude(_Finished(assignment, reporter, job, model, learner, splits, state, loop))


def _log_start(
    assignment: Assignment,
    reporter: Reporter,
    job: TrainJob | FinetuneJob,
    model: Any,
    learner: Learner,
    splits: Splits,
    restored: Restored | None,
    damaged: list[str],
) -> None:
    """Log the environment, data, model and plan at the start."""
    threads = (restored.threads if restored else None) or assignment.threads
    plan = Plan(job.training, splits.length)
    reporter.log(training_log.environment(learner, model.framework, assignment, threads))
    reporter.log(training_log.data(assignment, splits))
    reporter.log(training_log.model(model, splits.facts))
    reporter.log(training_log.plan(job.training, plan.steps_per_epoch, plan.total_steps))
    for checkpoint in damaged:
        reporter.log(f"checkpoint {checkpoint} does not match its hash and is quarantined", "warning")
    if restored:
        step = restored.run.step
        reporter.log(f"resumes from the checkpoint of step {step:,} of {plan.total_steps:,} (epoch {plan.epoch(step)})")


def _load_data(assignment: Assignment, model: Any, job: TrainJob | FinetuneJob, tokenizer: str | None) -> Splits:
    if assignment.dataset_dir is None:
        raise BadData(f"the data set {job.dataset!r} has no folder on this worker")
    data = families.part(model.family, "data")
    extra = {} if tokenizer is None else {"tokenizer": tokenizer}
    splits: Splits = data.load_splits(Path(assignment.dataset_dir), model, job.training, **extra)
    if job.training.batch_size > splits.length:
        raise BadData(
            f"training.batch_size {job.training.batch_size} is larger than the {splits.length} rows trained on; "
            f"use at most {splits.length}"
        )
    return splits


def _build(
    assignment: Assignment,
    job: TrainJob | FinetuneJob,
    model: Any,
    splits: Splits,
    restored: Restored | None,
    facts: Mapping[str, Any],
) -> Learner:
    setup = LearnerSetup(
        model=model,
        training=job.training,
        total_steps=Plan(job.training, splits.length).total_steps,
        device=assignment.device,
        threads=(restored.threads if restored else None) or assignment.threads,
        facts={**splits.facts, **facts},
    )
    learner = families.load(model.family, model.framework)(setup)
    if restored:
        learner.load_state(restored.learner)
    return learner


def _at_epoch(
    learner: Learner, splits: Splits, model: Any, job: TrainJob | FinetuneJob, job_dir: Path, reporter: Reporter
) -> AtEpoch | None:
    """Return the family's action after each epoch, if it has one."""
    if not families.has(model.family, "per_epoch"):
        return None

    def stop() -> bool:
        return reporter.stop_requested() is not None

    begun: AtEpoch = families.part(model.family, "per_epoch").start(
        learner, splits, model, job.training, job_dir, stop, reporter.log
    )
    return begun


def _started(
    assignment: Assignment, learner: Learner, restored: Restored | None, damaged: list[str], total_steps: int
) -> Started:
    return Started(
        pid=os.getpid(),
        device=getattr(learner, "device_name", assignment.device),
        resumed_from=restored.point.id if restored else None,
        resumed_step=restored.run.step if restored else None,
        quarantined=damaged,
        total_steps=total_steps,
    )


# -- the end of the job ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Finished:
    assignment: Assignment
    reporter: Reporter
    job: TrainJob | FinetuneJob
    model: Any
    learner: Learner
    splits: Splits
    state: RunState
    loop: Trainer


def _conclude(done: _Finished) -> Result:
    """Test the best model, write it with its plots, and return the result."""
    family, state, root = done.model.family, done.state, artifacts.folder(done.assignment)
    done.loop.progress.enter("write")
    if state.best.weights is not None:
        done.learner.load_weights(state.best.weights)
    with done.loop.progress.phase("evaluate"):
        report = families.part(family, "evaluation").report(done.learner, done.splits, done.model, done.job.training)
    of = f"the best model (step {state.best.step:,})" if state.best.step else "the model"
    done.reporter.log(f"{of} on the test part: {training_log.measures(report.metrics)}")
    paths = artifacts.write_model(root, done.learner.weights(), done.model, done.splits.facts)
    extras = getattr(families.part(family, "data"), "write_extras", None)
    if extras is not None:
        paths += extras(root, done.splits)
    if report.document:
        paths.append(artifacts.write_json(root / "evaluation.json", report.document))
    with done.loop.progress.phase("figures"):
        paths += families.part(family, "plots").draw(report, state.history, root, state.best.step)
        events = root / tensorboard.FOLDER / f"events.out.tfevents.{done.assignment.job_id}"
        paths.append(tensorboard.write_events(state.history, events, time.time()))
    if families.has(family, "per_epoch"):
        finished = done.loop.plan.finished_epochs(state.step)
        paths += families.part(family, "per_epoch").collect(Path(done.assignment.job_dir), root, finished)
    for path in paths:
        artifacts.announce(path, root, done.reporter)
    with done.loop.progress.phase("evaluate"):
        comparison = promotion.compare_with_champion(
            done.assignment, done.reporter, done.job, done.learner, root / "model"
        )
    model = {"family": family, "framework": done.model.framework, "path": "model"}
    return Result(metrics={**report.metrics, **state.figures()}, model=model, step=state.step, comparison=comparison)
