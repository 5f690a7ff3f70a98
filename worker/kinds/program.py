"""`kind: run`: an installed program, with its own loop."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightshift.plugins import installed_programs
from nightshift.programs import Program
from shared.errors import UnsupportedJob
from shared.job_files import checkpoint_files
from shared.models.promotion_gate import Rule
from shared.specs.jobs import RunJob
from worker.hardware.frameworks import framework_of
from worker.programs.attempt import PHASE, FollowingRun, ProgramRun
from worker.programs.checkpoint import restore
from worker.programs.promotion import compare_with_champion
from worker.references import function
from worker.runners.messages import Assignment, Result, Started, Stopped
from worker.training import training_log
from worker.training.reporter import Reporter


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped:
    """Run the job. Raises JobError, and any error of the program."""
    job = RunJob.model_validate_json(json.dumps(assignment.spec))
    program = _program(job.program)
    params = program.params.model_validate_json(json.dumps(job.params))
    os.environ.update(assignment.secrets)
    job_dir = Path(assignment.job_dir)
    checkpoint_files.sweep(job_dir, fence=assignment.fence)
    latest, damaged = restore(job_dir, assignment.resume)
    train = function(program.train)
    evaluate = function(program.evaluate) if job.promote and program.evaluate else None
    # One process is TensorFlow's gang, whatever `RANK` says that its worker was started with.
    leads = not assignment.devices or framework_of(assignment.spec) == "tensorflow" or os.environ["RANK"] == "0"
    attempt = (ProgramRun if leads else FollowingRun)(assignment, reporter, job, params, latest)
    reporter.started(
        Started(
            pid=os.getpid(),
            device=assignment.device,
            resumed_from=latest.point.id if latest else None,
            resumed_step=latest.step if latest else None,
            quarantined=damaged,
        )
    )
    for checkpoint in damaged:
        reporter.log(f"checkpoint {checkpoint} does not match its hash and is quarantined", "warning")
    if warning := training_log.continued(assignment):
        reporter.log(warning, "warning")
    reporter.log(_beginning(program, assignment.package, latest.step if latest else None))
    reporter.phase(PHASE)
    train(attempt)
    if attempt.told not in (None, "finish") or not leads:
        return Stopped(reason=str(attempt.told), step=attempt.step)
    result = _result(program, job, attempt, reporter)
    if job.promote is None or evaluate is None or result.model is None:
        return result
    compared = compare_with_champion(assignment, reporter, attempt, evaluate, Rule.of(job.promote))
    return result.model_copy(update={"comparison": compared})


def _program(name: str) -> Program:
    """Return the program. Raises UnsupportedJob."""
    found = installed_programs([name]).get(name)
    if found is None or found.declared is None:
        raise UnsupportedJob(f"this worker has no program {name}: {found.error if found else 'it is not installed'}")
    return found.declared


def _beginning(program: Program, package: str | None, step: int | None) -> str:
    origin = "from the beginning" if step is None else f"from the checkpoint of step {step:,}"
    return f"program {program.name}{f' of {package}' if package else ''}, {origin}"


def _result(program: Program, job: RunJob, attempt: ProgramRun, reporter: Reporter) -> Result:
    model: Mapping[str, Any] | None = None
    if attempt.registered is not None:
        attempt.announce_model()
        model = {"family": program.name, "framework": program.framework or "", "path": "model"}
    elif job.register_as:
        reporter.log(f"the program has registered no model, so {job.register_as} gets no version", "warning")
    metrics = attempt.metrics if attempt.registered is None else attempt.registered
    return Result(metrics=metrics, model=dict(model) if model else None, step=attempt.step)
