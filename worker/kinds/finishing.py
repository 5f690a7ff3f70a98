"""The end of a job that needs no device: evaluation document, figures, event file, and the hashes of all artifacts.

The runner on the device writes what is left to two files in the attempt's folder and ends, so that nothing of it stays
on the device. Another runner reads them. What would not come back from the files exactly as it is, such as a family's
own objects, is not handed over: the job is then finished where it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightshift.families.learner import Array, Evaluation
from shared.failpoints import failpoint
from shared.jobs.states import FINISHING
from worker import families
from worker.hardware.gpu_context import hide_gpus
from worker.runners.messages import Assignment, Result, Stopped
from worker.training import artifacts, tensorboard
from worker.training.plots import History
from worker.training.reporter import Reporter

#: Files in the attempt's folder.
FACTS, ARRAYS = "finishing.json", "finishing.npz"


@dataclass(frozen=True)
class Unfinished:
    """A job whose model is final and evaluated."""

    result: Result
    family: str
    report: Evaluation
    #: Artifacts that are written, relative to their folder.
    written: list[str]
    #: Of a training; None: nothing was trained.
    history: History | None = None
    best_step: int | None = None
    finished_epochs: int = 0


# -- from one process to another ------------------------------------------------------------------


def hand_over(assignment: Assignment, unfinished: Unfinished) -> bool:
    """Write what is left to files. Return False if another process could not read it as it is."""
    facts, arrays = _facts(unfinished), unfinished.report.arrays
    folder = Path(assignment.work_dir)
    try:
        text = json.dumps(facts)
        if json.loads(text) != facts or not _is_plain(unfinished.report):
            return False
        np.savez(folder / ARRAYS, *arrays.values())
        (folder / FACTS).write_text(text, encoding="utf-8")
    except (TypeError, ValueError, OSError):
        return False
    return True


def take_over(assignment: Assignment) -> Unfinished:
    """Read what is left from the files and remove them. GPUs are hidden from this process first."""
    hide_gpus()
    folder = Path(assignment.work_dir)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    with np.load(folder / ARRAYS, allow_pickle=False) as stored:
        arrays = {name: stored[f"arr_{i}"] for i, name in enumerate(facts["arrays"])}
    for name in (FACTS, ARRAYS):
        (folder / name).unlink()
    return Unfinished(
        result=Result.model_validate(facts["result"]),
        family=facts["family"],
        report=Evaluation(facts["metrics"], facts["document"], arrays),
        written=facts["written"],
        history=facts["history"],
        best_step=facts["best_step"],
        finished_epochs=facts["finished_epochs"],
    )


def _facts(unfinished: Unfinished) -> dict[str, Any]:
    report = unfinished.report
    return {
        "result": unfinished.result.model_dump(mode="json"),
        "family": unfinished.family,
        "metrics": report.metrics,
        "document": report.document,
        "arrays": list(report.arrays),
        "written": unfinished.written,
        "history": unfinished.history,
        "best_step": unfinished.best_step,
        "finished_epochs": unfinished.finished_epochs,
    }


def _is_plain(report: Evaluation) -> bool:
    """Return whether a report consists of what the files can hold."""
    arrays: Mapping[str, Array] = report.arrays
    return type(report) is Evaluation and all(
        type(array) in (np.ndarray, np.memmap) and not array.dtype.hasobject for array in arrays.values()
    )


# -- the end --------------------------------------------------------------------------------------


def finish(assignment: Assignment, reporter: Reporter, unfinished: Unfinished) -> Result | Stopped:
    """Write and report what is left, and return the job's result."""
    reporter.phase(FINISHING)
    failpoint("finishing.begun")
    family, report, root = unfinished.family, unfinished.report, artifacts.folder(assignment)
    paths = [root / name for name in unfinished.written]
    if report.document:
        paths.append(artifacts.write_json(root / "evaluation.json", report.document))
    if reporter.stop_requested() == "cancel":
        return Stopped(reason="cancel", step=unfinished.result.step)
    if draw := families.optional_part(family, "draw"):
        paths += draw(report, unfinished.history or {}, root, unfinished.best_step)
    if unfinished.history is not None:
        events = root / tensorboard.FOLDER / f"events.out.tfevents.{assignment.job_id}"
        paths.append(tensorboard.write_events(unfinished.history, events, time.time()))
        if collect := families.optional_part(family, "collect_epochs"):
            paths += collect(Path(assignment.job_dir), root, unfinished.finished_epochs)
    artifacts.announce(paths, root, reporter)
    return unfinished.result
