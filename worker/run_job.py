"""Run one job by hand, without queue and database.

    python -m worker.run_job SPEC.json DIR [--data-set FOLDER] [--model FOLDER] [--champion FOLDER] [--threads N]
        [--device cpu|cuda:N]

`--data-set` is the folder of a stored version (with its meta.json); the default is the built-in `digits`.
`--model` is the folder of the model that `model_ref` names (another job's `artifacts/model`), `--champion` that of the
model that a job with `promote` is compared with, on the test part of the same data set. The job writes `metrics.jsonl`,
`checkpoints/` and `artifacts/` to DIR; with the same DIR, a killed run resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from nightshift.errors import ConfigurationError
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import store_images
from shared.errors import JobError
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.checkpoint_retention import needs_all_checkpoints, superseded
from shared.specs.jobs import RunJob, job_spec_adapter
from worker import kinds
from worker.hardware.devices import named
from worker.runners.messages import ArtifactSaved, Assignment, Champion, MetricPoint, Progress, Result, Started


class PrintingReporter:
    """Prints frames, writes `metrics.jsonl` and removes superseded checkpoints."""

    def __init__(self, folder: Path, keep_last: int, keep_best: bool) -> None:
        self.folder, self.keep_last, self.keep_best = folder, keep_last, keep_best
        self.kept = {checkpoint.id: checkpoint for checkpoint in _checkpoints(folder)}
        self.stop_reason: str | None = None
        self.champion_dir: Path | None = None
        self.champion_family: str | None = None
        self._lock = threading.Lock()

    def started(self, frame: Started) -> None:
        _truncate_metrics(self.folder, frame.resumed_step or 0)
        origin = f"resumed at step {frame.resumed_step}" if frame.resumed_step else "from the beginning"
        self._print(f"started on {frame.device}, {origin}, {frame.total_steps} steps", *frame.quarantined)

    def progress(self, frame: Progress) -> None:
        parts = [f"{frame.phase} {frame.step}/{frame.total_steps}", f"{frame.percent}%"]
        parts += [f"loss {frame.loss:.4f}"] if frame.loss is not None else []
        parts += [f"{frame.samples_per_second:.0f} samples/s"] if frame.samples_per_second else []
        parts += [f"{frame.eta_seconds:.0f} s left"] if frame.eta_seconds is not None else []
        self._print(" · ".join(parts))

    def phase(self, name: str) -> None:
        return None

    def metrics(self, points: Sequence[MetricPoint]) -> None:
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.writelines(point.model_dump_json() + "\n" for point in points)

    def checkpoint(self, checkpoint: CheckpointRecord) -> None:
        self.kept[checkpoint.id] = checkpoint
        for gone in superseded(self.kept.values(), keep_last=self.keep_last, keep_best=self.keep_best):
            checkpoint_files.remove(self.folder, self.kept.pop(gone).path)
        self._print(f"checkpoint of step {checkpoint.step}, {checkpoint.size_bytes:,} bytes")

    def artifact(self, frame: ArtifactSaved) -> None:
        self._print(f"artifact {frame.path}  {frame.sha256[:12]}  {frame.size_bytes:,} bytes")

    def log(self, message: str, level: str = "info") -> None:
        self._print(f"{level}: {message}")

    def champion(self) -> Champion:
        if self.champion_dir is None:
            return Champion()
        return Champion(version=1, model_dir=str(self.champion_dir.resolve()), family=self.champion_family)

    def agree(self, engine: str) -> str:
        return engine

    def stop_requested(self) -> str | None:
        return self.stop_reason

    def _print(self, *lines: str) -> None:
        with self._lock:
            print(*lines, sep="\n", flush=True)


def _truncate_metrics(folder: Path, step: int) -> None:
    """Drop the metric rows after the step that a run resumes from; it writes them again."""
    path = folder / "metrics.jsonl"
    rows = path.read_text().splitlines() if path.exists() else []
    path.write_text("".join(f"{row}\n" for row in rows if _step_of(row) <= step))


def _step_of(row: str) -> float:
    try:
        return float(json.loads(row)["step"])
    except ValueError:
        return float("inf")  # an incomplete line: the run was killed while writing it


def _checkpoints(folder: Path) -> list[CheckpointRecord]:
    """Return the checkpoints in DIR, newest first."""
    found = map(_checkpoint, (folder / checkpoint_files.FOLDER).glob("[0-9]*-*"))
    return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True)


def _checkpoint(path: Path) -> CheckpointRecord:
    step, sha256 = path.name.split("-")
    return CheckpointRecord(
        id=path.name,
        path=f"{checkpoint_files.FOLDER}/{path.name}",
        step=int(step),
        sha256=sha256,
        size_bytes=sum(file.stat().st_size for file in checkpoint_files.files_below(path).values()),
        is_best=_is_best(path),
    )


def _is_best(path: Path) -> bool:
    try:
        run = json.loads((path / "state.json").read_text())["run"]
        return bool(run["best"]["step"] == run["step"])
    except (OSError, ValueError, KeyError):
        return False


def _next_fence(folder: Path) -> int:
    """Return the number of the next attempt, counted in a file."""
    path = folder / "attempt"
    fence = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(fence))
    return fence


def make_assignment(
    spec: dict[str, Any],
    folder: Path,
    data_set: Path | None,
    threads: int | None,
    model: Path | None = None,
    *,
    device: Literal["cpu", "gpu"] = "cpu",
) -> Assignment:
    """Return the assignment of the next attempt in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    data_set = data_set or store_images(folder / "datasets", digits()).folder
    return Assignment(
        job_id=folder.name,
        fence=_next_fence(folder),
        spec=spec,
        job_dir=str(folder),
        work_dir=str(folder),
        dataset_dir=str(data_set.resolve()),
        parent_model_dir=str(model.resolve()) if model else None,
        evaluate_dir=str(data_set.resolve()),
        resume=_checkpoints(folder),
        threads=threads,
        device=device,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.run_job", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--data-set", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--champion", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", help="cpu (default), or a GPU by its number, such as cuda:0")
    arguments = parser.parse_args(argv)
    try:
        device = named(arguments.device)
    except ConfigurationError as error:
        parser.error(str(error))
    os.environ.update(device.environment())  # before a framework is imported
    job = job_spec_adapter.validate_json(arguments.spec.read_bytes())
    folder: Path = arguments.dir.resolve()
    assignment = make_assignment(
        job.model_dump(mode="json"),
        folder,
        arguments.data_set,
        arguments.threads,
        arguments.model,
        device=device.kind,
    )
    keep_last = sys.maxsize if needs_all_checkpoints(job.kind) else job.checkpoint.keep_last
    reporter = PrintingReporter(folder, keep_last, job.checkpoint.keep_best)
    reporter.champion_dir = arguments.champion
    reporter.champion_family = job.program if isinstance(job, RunJob) else None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(reporter, "stop_reason", "drain"))
    try:
        outcome = kinds.run(assignment, reporter)
    except JobError as error:
        print(f"failed: {error.type}: {error}", file=sys.stderr)
        return 1
    print(outcome.model_dump_json(indent=1))
    return 0 if isinstance(outcome, Result) else 2


if __name__ == "__main__":
    sys.exit(main())
