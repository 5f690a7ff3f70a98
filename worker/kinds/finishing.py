"""The end of a job that needs no device: evaluation document, figures, event file, predictions, and all hashes.

The runner on the device writes what is left to two files in the attempt's folder and ends, so that nothing of it stays
on the device. Another runner reads them. What would not come back from the files exactly as it is, such as a family's
own objects, is not handed over, nor is what takes less time than another process: the job is then finished where it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nightshift.families.learner import Array, Evaluation
from shared.errors import CorruptCheckpoint
from shared.failpoints import failpoint
from shared.job_files import checkpoint_files
from shared.jobs.states import StopRequest
from worker import families
from worker.hardware.gpu_context import hide_gpus
from worker.kinds import prediction_files
from worker.runners.messages import Assignment, Result, Stopped
from worker.training import artifacts, tensorboard
from worker.training.plots import History
from worker.training.reporter import Reporter

#: Files in the attempt's folder.
FACTS, ARRAYS = "finishing.json", "finishing.npz"
#: Bytes of parts below which they are joined where they are, if nothing is drawn: another process takes 0.2 s of a core
#: and joins 6 MB of Parquet in that time. Too low: small jobs take longer. Too high: the device idles meanwhile.
SMALL_BYTES = 4_000_000


@dataclass(frozen=True)
class Unfinished:
    """A job that has all it needs its device for: its model is final and evaluated, or its rows are computed."""

    result: Result
    family: str
    #: What the document and the figures show; None: there are none.
    report: Evaluation | None
    #: Artifacts that are written, relative to their folder.
    written: list[str]
    #: Of a training; None: nothing was trained.
    history: History | None = None
    best_step: int | None = None
    finished_epochs: int = 0
    #: Of a batch inference: the folders of its parts in the order of their rows, with their hashes.
    parts: Mapping[str, str] = field(default_factory=dict)
    #: It takes less time than another process.
    is_small: bool = False


# -- from one process to another ------------------------------------------------------------------


def hand_over(assignment: Assignment, unfinished: Unfinished) -> bool:
    """Write what is left to files. Return False if it is little, or another process could not read it as it is."""
    if unfinished.is_small:
        return False
    facts, arrays = _facts(unfinished), unfinished.report.arrays if unfinished.report else {}
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
    report = facts["report"]
    return Unfinished(
        result=Result.model_validate(facts["result"]),
        family=facts["family"],
        report=Evaluation(report["metrics"], report["document"], arrays) if report else None,
        written=facts["written"],
        history=facts["history"],
        best_step=facts["best_step"],
        finished_epochs=facts["finished_epochs"],
        parts=facts["parts"],
    )


def _facts(unfinished: Unfinished) -> dict[str, Any]:
    report = unfinished.report
    return {
        "result": unfinished.result.model_dump(mode="json"),
        "family": unfinished.family,
        "report": {"metrics": report.metrics, "document": report.document} if report else None,
        "arrays": list(report.arrays) if report else [],
        "written": unfinished.written,
        "history": unfinished.history,
        "best_step": unfinished.best_step,
        "finished_epochs": unfinished.finished_epochs,
        "parts": dict(unfinished.parts),
    }


def _is_plain(report: Evaluation | None) -> bool:
    """Return whether a report consists of what the files can hold."""
    if report is None:
        return True
    arrays: Mapping[str, Array] = report.arrays
    return type(report) is Evaluation and all(
        type(array) in (np.ndarray, np.memmap) and not array.dtype.hasobject for array in arrays.values()
    )


# -- the end --------------------------------------------------------------------------------------


def finish(assignment: Assignment, reporter: Reporter, unfinished: Unfinished) -> Result | Stopped:
    """Write and report what is left, and return the job's result.

    A damaged part ends the attempt: the next one computes its rows again, on a device.
    """
    failpoint("finishing.begun")
    report, root, step = unfinished.report, artifacts.folder(assignment), unfinished.result.step
    paths = [root / name for name in unfinished.written]
    if report is not None and report.document:
        paths.append(artifacts.write_json(root / "evaluation.json", report.document))
    if reporter.stop_requested() == StopRequest.CANCEL:
        return Stopped(reason=StopRequest.CANCEL, step=step)
    if report is not None:
        paths += draw(unfinished.family, report, root, unfinished.history, unfinished.best_step)
    if unfinished.history is not None:
        paths += _of_training(assignment, unfinished, unfinished.history, root)
    if unfinished.parts:
        try:
            paths += _joined(assignment, unfinished.parts, root)
        except CorruptCheckpoint as damaged:
            reporter.log(f"the part {Path(damaged.path).name} is damaged: its rows are computed again", "warning")
            return Stopped(reason=StopRequest.DRAIN, step=step)
    artifacts.announce(paths, root, reporter)
    return unfinished.result


def draw(
    family: str, report: Evaluation, root: Path, history: History | None = None, best_step: int | None = None
) -> list[Path]:
    """Draw a family's figures below `root` and return their paths."""
    drawing = families.optional_part(family, "draw")
    return list(drawing(report, history or {}, root, best_step)) if drawing else []


def _of_training(assignment: Assignment, unfinished: Unfinished, history: History, root: Path) -> list[Path]:
    """Write the event file, and collect what was left after each epoch."""
    events = root / tensorboard.FOLDER / f"events.out.tfevents.{assignment.job_id}"
    paths = [tensorboard.write_events(history, events, time.time())]
    if collect := families.optional_part(unfinished.family, "collect_epochs"):
        paths += collect(Path(assignment.job_dir), root, unfinished.finished_epochs)
    return paths


def _joined(assignment: Assignment, parts: Mapping[str, str], root: Path) -> list[Path]:
    """Join the parts of a batch inference. Raises CorruptCheckpoint for a damaged one."""
    for folder, sha256 in parts.items():
        checkpoint_files.verify(Path(folder), sha256)
    return prediction_files.join([Path(folder) for folder in parts], assignment.spec["inference"]["output"], root)
