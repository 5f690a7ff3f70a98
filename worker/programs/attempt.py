"""One attempt of a job of kind `run`, as its program sees it (`nightshift.programs.Run`)."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightshift.families.learner import Array
from shared.datasets.store import open_dataset
from shared.job_files import checkpoint_files
from shared.specs.jobs import RunJob
from worker.programs import checks
from worker.programs.checkpoint import SavedProgram, contents
from worker.runners.messages import Assignment, MetricPoint, Progress
from worker.runners.redaction import hide
from worker.training import artifacts
from worker.training.checkpoints import CheckpointSchedule
from worker.training.reporter import Reporter

#: The phase of a program: every message is a sign of life, because only the program knows what its steps are.
PHASE = "program"
#: Most characters of a note.
_LONGEST_NOTE = 10_000
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
        self.device, self.devices = assignment.device, max(1, len(assignment.devices))
        self.threads = assignment.threads or os.cpu_count() or 1
        self.seed = job.seed
        self._scratches = Path(assignment.work_dir) / self._scratch_name()
        self._scratch_count = 0
        self.scratch = self.new_scratch()
        #: The last step that was reported, and the metrics of the model that was registered; None: no model.
        self.step = latest.step if latest else 0
        self.registered: dict[str, float] | None = None
        self._model_files: list[Path] = []
        #: The stop request that the program was told of.
        self.told: str | None = None
        self._latest = latest
        self._reporter, self._fence, self._job_dir = reporter, assignment.fence, Path(assignment.job_dir)
        self._secrets = tuple(assignment.secrets.values())
        self._root = artifacts.folder(assignment)
        self.model_dir = self._root / "model"
        self._due = CheckpointSchedule(job.checkpoint, self.step)
        self._saved_step = self.step or None
        self._last: dict[str, float] = {}
        self._reported_at = -math.inf

    def _scratch_name(self) -> str:
        return "scratch"

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
        """Record metrics of a step. Raises ValueError for a bad name or step, or a value that is not finite."""
        step = checks.step(step)
        values = checks.metrics(metrics, f" at step {step}")
        self._last |= values
        self._reporter.metrics(
            [MetricPoint(name=name, step=step, epoch=epoch, value=value) for name, value in values.items()]
        )

    def progress(self, step: int, total_steps: int | None = None, epoch: int = 0) -> None:
        """Report how far the run is."""
        step = checks.step(step)
        self.step = max(self.step, step)
        is_last = total_steps is not None and step >= total_steps
        if time.monotonic() - self._reported_at < _REPORTED_EVERY and not is_last:
            return
        self._reported_at = time.monotonic()
        percent = round(100 * step / total_steps, 2) if total_steps else None
        frame = Progress(step=step, total_steps=total_steps, epoch=epoch, percent=percent, phase=PHASE, at=time.time())
        self._reporter.progress(frame)

    def alive(self, phase: str) -> None:
        """Report that a phase goes on, now and then."""
        if time.monotonic() - self._reported_at >= _REPORTED_EVERY:
            self._reported_at = time.monotonic()
            self._reporter.phase(phase)

    def new_scratch(self) -> Path:
        """Return a new empty folder for temporary files."""
        self._scratch_count += 1
        folder = self._scratches / str(self._scratch_count)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def note(self, message: str) -> None:
        """Write a line to the job's log."""
        # Hidden before it is cut: half of a secret would not be found later.
        self._reporter.log(hide(str(message), self._secrets)[:_LONGEST_NOTE])

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
        step = checks.step(step)
        if step < 1:
            raise ValueError(f"a checkpoint needs a step of at least 1, not {step}")
        if step == self._saved_step:
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
        """Keep a folder as the job's model. Raises ValueError for bad metrics."""
        measured = checks.metrics(metrics)
        shutil.rmtree(self.model_dir, ignore_errors=True)
        self._model_files = self._keep(Path(folder), self.model_dir.name)
        self.registered = measured

    def announce_model(self) -> None:
        """Report the files of the model that was registered last. Called once, when the program has ended."""
        artifacts.announce(self._model_files, self._root, self._reporter)

    def _keep(self, path: Path, name: str) -> list[Path]:
        """Copy a file or a folder below the artifacts; return the files."""
        checks.artifact_name(name)
        target = (self._root / name).resolve()
        if not target.is_relative_to(self._root.resolve()) or target == self._root.resolve():
            raise ValueError(f"the name of an artifact must be a path below its folder, not {name!r}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
            return sorted(file for file in target.rglob("*") if file.is_file())
        shutil.copyfile(path, target)
        return [target]


class FollowingRun(ProgramRun):
    """The attempt as a rank of a gang sees it that is not the first: it keeps nothing, and is asked nothing."""

    def _scratch_name(self) -> str:
        return f"scratch-{os.environ['RANK']}"

    def save(self, step: int, **_: Any) -> None:
        self._saved_step = checks.step(step)
        self._due.reset(step)

    def artifact(self, path: Path, name: str | None = None) -> None:
        return None

    def register(self, folder: Path, metrics: Mapping[str, float]) -> None:
        self.registered = checks.metrics(metrics)
