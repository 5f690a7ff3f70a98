"""Merges what the shards of a batch inference left, without a device: the bytes of a job that was not divided."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from shared.errors import BadData
from shared.jobs.states import FINISHING, StopRequest
from shared.specs.jobs import BatchInferJob
from worker.kinds.batch_inference import FIGURES, Part, contiguous, counted, left_by, restore
from worker.kinds.prediction_files import join
from worker.runners.messages import Assignment, Progress, Result, Started, Stopped
from worker.training import artifacts
from worker.training.reporter import Reporter


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped:
    """Merge the parts. A damaged one ends the attempt: the next one computes its rows again, on a device.

    Raises BadData if rows are missing.
    """
    job = BatchInferJob.model_validate_json(json.dumps(assignment.spec))
    found, damaged = restore(left_by(assignment))
    parts = contiguous(found)
    rows, total = (parts[-1].stop, parts[0].total) if parts else (0, 0)
    reporter.started(
        Started(pid=os.getpid(), device=assignment.device, resumed_step=rows, quarantined=damaged, total_steps=total)
    )
    reporter.phase(FINISHING)
    percent = round(100 * rows / max(1, total), 2)
    reporter.progress(Progress(step=rows, total_steps=total, percent=percent, phase=FINISHING, at=time.time()))
    if damaged:
        reporter.log(f"{len(damaged)} parts of the shards are damaged: their rows are computed again", "warning")
        return Stopped(reason=StopRequest.DRAIN, step=rows)
    if not parts or (rows < total and not assignment.finish):
        raise BadData(f"the shards left no predictions of row {rows:,} and those after it; run the job again")
    if reporter.stop_requested() == StopRequest.CANCEL:
        return Stopped(reason=StopRequest.CANCEL, step=rows)
    reporter.log(f"merges {rows:,} rows of {len(assignment.divided)} shards")
    root = artifacts.folder(assignment)
    paths = join([part.folder for part in parts], job.inference.output, root)
    artifacts.announce([*paths, *_figures(parts[0], root)], root, reporter)
    return counted(parts)


def _figures(first: Part, root: Path) -> Iterator[Path]:
    """Copy the plots that the shard with the first row drew."""
    for path in sorted((first.folder / FIGURES).glob("*")):
        yield Path(shutil.copyfile(path, root / path.name))
