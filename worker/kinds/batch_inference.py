"""`kind: batch_infer`: predictions for all rows, in chunks that survive a kill, joined into one file at the end.

Each chunk becomes a part: a folder written like a checkpoint (temporary folder, fsync, hash, rename) and reported as
one, with the number of rows done as its step. The chunk boundaries depend on the job alone. So an attempt computes only
missing or damaged parts, and a resumed job has the same output, byte for byte: no row twice, none left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import CorruptCheckpoint
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.specs.jobs import BatchInferJob, check_inference
from worker import families
from worker.kinds import prediction_files
from worker.kinds.base_model import build, read_model, refuse
from worker.kinds.prediction_files import Source
from worker.runners.messages import Assignment, Result, Started, Stopped
from worker.training import artifacts, training_log
from worker.training.numerics.allocator import keep_freed_memory
from worker.training.progress import ProgressMeter
from worker.training.reporter import Reporter
from worker.training.training_log import Pace

FORMAT = 1
FACTS, ROWS, ERRORS = "part.json", "rows", "errors.jsonl"
#: Approximate number of chunks. Fewer: a kill loses more work. More: more files and rows in SQL.
CHUNKS = 100
#: Most batches in a chunk. Too high: a stop waits long for the chunk's end.
MOST_BATCHES = 32


@dataclass(frozen=True)
class Part:
    """A finished chunk: rows `start` … `stop - 1` of the input."""

    point: CheckpointRecord
    start: int
    stop: int
    errors: int
    threads: int | None


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped:
    """Run the job. Raises JobError."""
    keep_freed_memory()
    job = BatchInferJob.model_validate_json(json.dumps(assignment.spec))
    parent = read_model(assignment)
    refuse(check_inference(parent.family, job.inference))
    job_dir = Path(assignment.job_dir)
    checkpoint_files.sweep(job_dir, fence=assignment.fence)
    parts, damaged = restore(job_dir, assignment.resume)
    # Results are bitwise equal only for the same number of threads: all parts use that of the first.
    threads = next((part.threads for part in parts.values()), None) or assignment.threads
    learner = build(parent, job.inference.framework, assignment, threads)
    folder = Path(assignment.dataset_dir) if assignment.dataset_dir else None
    source: Source = families.part(parent.family, "open_source")(learner, parent, job.inference, folder)
    parts = {start: part for start, part in parts.items() if part.stop <= source.total}
    newest = max(parts.values(), key=lambda part: part.stop, default=None)
    reporter.started(
        Started(
            pid=os.getpid(),
            device=assignment.device,
            resumed_from=newest.point.id if newest else None,
            resumed_step=newest.stop if newest else None,
            quarantined=damaged,
            total_steps=source.total,
        )
    )
    reporter.log(training_log.environment(job.inference.framework, assignment, threads))
    count = f"{len(chunks(source.total, job.inference.batch_size)):,} chunks" + (
        f", {len(parts)} done before" if parts else ""
    )
    reporter.log(f"{job.inference.task}s {source.total:,} rows in {count}")
    work = Work(job, source, parts, job_dir, assignment.fence, threads, reporter)
    reason = work.run()
    if reason is not None and reason != "finish":
        return Stopped(reason=reason, step=work.done)
    return _conclude(assignment, reporter, job, source, work)


# -- parts ----------------------------------------------------------------------------------------


def restore(job_dir: Path, points: Iterable[CheckpointRecord]) -> tuple[dict[int, Part], list[str]]:
    """Return the intact parts by their first row, and the ids of damaged ones."""
    parts: dict[int, Part] = {}
    damaged: list[str] = []
    for point in points:
        try:
            checkpoint_files.verify(job_dir / point.path, point.sha256)
            part = _read(job_dir, point)
        except CorruptCheckpoint:
            damaged.append(point.id)
            continue
        parts.setdefault(part.start, part)
    return dict(sorted(parts.items())), damaged


def _read(job_dir: Path, point: CheckpointRecord) -> Part:
    facts = json.loads((job_dir / point.path / FACTS).read_text())
    if facts.get("format") != FORMAT:
        raise CorruptCheckpoint(point.path, f"format {facts.get('format')} is not {FORMAT}")
    return Part(point, facts["start"], facts["stop"], facts["errors"], facts["threads"])


@dataclass
class Work:
    """The finished and missing chunks of one job."""

    job: BatchInferJob
    source: Source
    parts: dict[int, Part]
    job_dir: Path
    fence: int
    threads: int | None
    reporter: Reporter

    @property
    def done(self) -> int:
        """Number of rows done."""
        return sum(part.stop - part.start for part in self.parts.values())

    def run(self) -> str | None:
        """Compute missing chunks in order; return the reason of a stop. `finish` waits for the first chunk."""
        total = self.source.total
        meter = ProgressMeter(total, 1, self.done, self.reporter, phase="infer")
        sizes: set[int] = set()
        pace = Pace()
        for start, stop in chunks(total, self.job.inference.batch_size):
            if start in self.parts:
                continue
            if (reason := self.reporter.stop_requested()) and (reason != "finish" or 0 in self.parts):
                return reason
            if stop - start not in sizes:  # the first chunk of a size may be compiled
                sizes.add(stop - start)
                meter.enter("first_step")
            self.parts[start] = self._compute(start, stop)
            meter.enter("infer")
            meter.stepped(self.done, 0)
            if pace.due() or self.done == total:
                self.reporter.log(f"{self.done:,} of {total:,} rows done")
        return None

    def _compute(self, start: int, stop: int) -> Part:
        table, bad = self.source.rows(start, stop)
        facts = {
            "format": FORMAT, "fence": self.fence, "start": start, "stop": stop, "errors": len(bad),
            "threads": self.threads,
        }  # fmt: skip
        content: Mapping[str, checkpoint_files.Content] = {
            FACTS: [json.dumps(facts, sort_keys=True).encode()],
            ROWS: [prediction_files.encode(table, self.job.inference.output)],
            ERRORS: [prediction_files.encode_errors(bad)],
        }
        saved = checkpoint_files.write(self.job_dir, step=stop, fence=self.fence, files=content)
        self.reporter.checkpoint(saved)
        return Part(saved, start, stop, len(bad), self.threads)

    def contiguous(self) -> list[Part]:
        """Return the parts from the first row up to the first gap."""
        found: list[Part] = []
        for _, part in sorted(self.parts.items()):
            if part.start != (found[-1].stop if found else 0):
                break
            found.append(part)
        return found


def chunks(total: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the (start, stop) of all chunks; each but the last has full batches."""
    batches = min(MOST_BATCHES, -(-total // (batch_size * CHUNKS)))
    size = max(1, batches) * batch_size
    return [(start, min(total, start + size)) for start in range(0, total, size)]


# -- the end of the job ---------------------------------------------------------------------------


def _conclude(assignment: Assignment, reporter: Reporter, job: BatchInferJob, source: Source, work: Work) -> Result:
    reporter.phase("write")
    root, parts = artifacts.folder(assignment), work.contiguous()
    output = job.inference.output
    folders = [work.job_dir / part.point.path for part in parts]
    paths = [
        prediction_files.join(
            [folder / ROWS for folder in folders], source.schema, output, root / f"predictions.{output}"
        )
    ]
    rows, errors = sum(part.stop - part.start for part in parts), sum(part.errors for part in parts)
    if errors:
        paths.append(prediction_files.concatenate([folder / ERRORS for folder in folders], root / ERRORS))
    paths += source.figures(root)
    artifacts.announce(paths, root, reporter)
    return Result(metrics={"rows": float(rows - errors), "errors": float(errors)}, step=rows)
