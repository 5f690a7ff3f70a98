"""The kinds of jobs: each module has `run(assignment, reporter) -> Result | Stopped`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import cast

from nightshift.names import BATCH_INFER, EVALUATE, FINETUNE, RUN, TRAIN
from shared.errors import UnsupportedJob
from worker.runners.messages import Assignment, Result, Stopped
from worker.training.reporter import Reporter

MODULES: dict[str, str] = {
    TRAIN: "worker.kinds.train",
    FINETUNE: "worker.kinds.finetune",
    BATCH_INFER: "worker.kinds.batch_inference",
    EVALUATE: "worker.kinds.evaluate",
    RUN: "worker.kinds.program",
}


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped:
    """Run a job of any kind. Raises JobError."""
    return cast("Result | Stopped", _module(str(assignment.spec.get("kind"))).run(assignment, reporter))


def _module(kind: str) -> ModuleType:
    path = MODULES.get(kind)
    if path is None or find_spec(path) is None:
        raise UnsupportedJob(f"this worker cannot run jobs of kind {kind!r}")
    return import_module(path)
