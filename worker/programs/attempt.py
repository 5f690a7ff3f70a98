"""One attempt of a job of kind `run`, as its program sees it (`nightshift.programs.Run`)."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.datasets.store import open_dataset
from shared.job_files import checkpoint_files
from shared.specs.jobs import RunJob
from worker.programs.checkpoint import SavedProgram, contents
from worker.runners.messages import Assignment, MetricPoint, Progress
from worker.training import artifacts
from worker.training.checkpoints import CheckpointSchedule
from worker.training.learner import Array
from worker.training.reporter import Reporter

#: The phase of a program: every message is a sign of life, because only the program knows what its steps are.
PHASE = "program"
#: Seconds between two reports of progress.
_REPORTED_EVERY = 0.5


class ProgramRun:
    """Implements `nightshift.programs.Run` on a runner."""

    def __init__(
        self, assignment: Assignment, reporter: Reporter, job: RunJob, params: Any, latest: SavedProgram | None
    ) -> None:
        self.params = params
        named = assignment.dataset_dir if job.dataset else None
        self.dataset = open_dataset(Path(named)).user_folder if named else None
        self.device = assignment.device
        self.threads = assignment.threads or os.cpu_count() or 1
        self.seed = job.seed
        self.scratch = Path(assignment.work_dir) / "scratch"
        self.scratch.mkdir(parents=True, exist_ok=True)
        #: The last step that was reported, and the metrics of the model that was registered; None: no model.
        self.step = latest.step if latest else 0
        self.registered: dict[str, float] | None = None
        #: The stop request that the program was told of.
        self.told: str | None = None
        self._latest = latest
        self._reporter, self._fence, self._job_dir = reporter, assignment.fence, Path(assignment.job_dir)
        self._root = artifacts.folder(assignment)
        self._due = CheckpointSchedule(job.checkpoint, self.step)
        self._saved_step = self.step or None
        self._last: dict[str, float] = {}
        self._reported_at = -math.inf

    @property
    def stop_reason(self) -> str | None:
        """Why the run must stop; None: go on."""
        self.told = self._reporter.stop_requested() or self.told
        return self.told

    def should_stop(self) -> bool:
        """Return whether the run must stop at the next step."""
        return self.stop_reason is not None

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric."""
        return dict(self._last)

    def log(self, metrics: Mapping[str, float], step: int, epoch: int = 0) -> None:
        """Record metrics of a step. Raises ValueError for a value that is not finite."""
        values = {str(name): float(value) for name, value in metrics.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value} at step {step}; metrics must be finite")
        self._last |= values
        self._reporter.metrics(
            [MetricPoint(name=name, step=step, epoch=epoch, value=value) for name, value in values.items()]
        )

    def progress(self, step: int, total_steps: int | None = None, epoch: int = 0) -> None:
        """Report how far the run is."""
        self.step = max(self.step, step)
        is_last = total_steps is not None and step >= total_steps
        if time.monotonic() - self._reported_at < _REPORTED_EVERY and not is_last:
            return
        self._reported_at = time.monotonic()
        percent = round(100 * step / total_steps, 2) if total_steps else None
        frame = Progress(step=step, total_steps=total_steps, epoch=epoch, percent=percent, phase=PHASE, at=time.time())
        self._reporter.progress(frame)

    def note(self, message: str) -> None:
        """Write a line to the job's log."""
        self._reporter.log(str(message))

    def checkpoint_due(self, step: int) -> bool:
        """Return whether the job's checkpoint policy asks for a checkpoint at this step."""
        return step != self._saved_step and self._due(step)

    def save(
        self,
        step: int,
        *,
        files: Mapping[str, Path | bytes] | None = None,
        arrays: Mapping[str, Array] | None = None,
        facts: Mapping[str, Any] | None = None,
        best: bool = False,
    ) -> None:
        """Write a checkpoint. Raises ValueError for a bad name or step."""
        if step < 1 or step == self._saved_step:
            if step < 1:
                raise ValueError(f"a checkpoint needs a step of at least 1, not {step}")
            return
        found = contents(self._fence, files or {}, arrays or {}, facts or {})
        self._reporter.phase("checkpoint")
        try:
            record = checkpoint_files.write(self._job_dir, step=step, fence=self._fence, files=found, is_best=best)
        except OSError as error:
            self._reporter.log(f"the checkpoint of step {step} could not be written: {error}", "error")
        else:
            self._reporter.checkpoint(record)
            self._saved_step = step
        finally:
            self._due.reset(step)
            self._reporter.phase(PHASE)

    def latest(self) -> SavedProgram | None:
        """Return the newest intact checkpoint of earlier attempts, or None."""
        return self._latest

    def artifact(self, path: Path, name: str | None = None) -> None:
        """Keep a file or a folder as an artifact. Raises ValueError for a name outside the folder of artifacts."""
        artifacts.announce(self._keep(Path(path), name or Path(path).name), self._root, self._reporter)

    def register(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Keep a folder as the job's model."""
        shutil.rmtree(self._root / "model", ignore_errors=True)
        self.artifact(folder, "model")
        self.registered = {str(name): float(value) for name, value in metrics.items()}

    def _keep(self, path: Path, name: str) -> list[Path]:
        """Copy a file or a folder below the artifacts; return the files."""
        target = (self._root / name).resolve()
        if not target.is_relative_to(self._root.resolve()) or target == self._root.resolve():
            raise ValueError(f"the name of an artifact must be a path below its folder, not {name!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
            return sorted(file for file in target.rglob("*") if file.is_file())
        shutil.copyfile(path, target)
        return [target]
