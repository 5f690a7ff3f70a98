"""The kinds of jobs: each module has `run(assignment, reporter) -> Result | Stopped | Unfinished`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, cast

from nightshift.names import BATCH_INFER, EVALUATE, FINETUNE, RUN, TRAIN
from shared.errors import UnsupportedJob
from shared.jobs.states import FINISHING
from worker.runners.messages import Assignment, Finishing, Result, Stopped
from worker.training.reporter import Reporter

if TYPE_CHECKING:
    from worker.kinds.finishing import Unfinished

MODULES: dict[str, str] = {
    TRAIN: "worker.kinds.train",
    FINETUNE: "worker.kinds.finetune",
    BATCH_INFER: "worker.kinds.batch_inference",
    EVALUATE: "worker.kinds.evaluate",
    RUN: "worker.kinds.program",
}


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped:
    """Run a job of any kind to its end in this process. Raises JobError."""
    from worker.kinds import finishing  # it imports matplotlib; the worker imports this package for its list of kinds

    found = _begin(assignment, reporter)
    return finishing.finish(assignment, reporter, found) if isinstance(found, finishing.Unfinished) else found


def run_part(assignment: Assignment, reporter: Reporter) -> Result | Stopped | Finishing:
    """Run the assigned part of a job. Raises JobError."""
    from worker.kinds import finishing

    if assignment.part == "merging":
        from worker.kinds import merging

        return merging.run(assignment, reporter)
    if assignment.part == "finishing":
        reporter.phase(FINISHING)
        return finishing.finish(assignment, reporter, finishing.take_over(assignment))
    found = _begin(assignment, reporter)
    if not isinstance(found, finishing.Unfinished):
        return found
    if assignment.part == "device" and finishing.hand_over(assignment, found):
        return Finishing()
    return finishing.finish(assignment, reporter, found)


def _begin(assignment: Assignment, reporter: Reporter) -> Result | Stopped | Unfinished:
    kind = _module(str(assignment.spec.get("kind")))
    return cast("Result | Stopped | Unfinished", kind.run(assignment, reporter))


def _module(kind: str) -> ModuleType:
    path = MODULES.get(kind)
    if path is None or find_spec(path) is None:
        raise UnsupportedJob(f"this worker cannot run jobs of kind {kind!r}")
    return import_module(path)
