"""`kind: batch_infer`: predictions for all rows, in chunks that survive a kill, joined into one file at the end.

Each chunk becomes a part: a folder written like a checkpoint (temporary folder, fsync, hash, rename) and reported as
one, with the number of rows done as its step. The chunk boundaries depend on the job alone. So an attempt computes only
missing or damaged parts, and a resumed job has the same output, byte for byte: no row twice, none left out.

A shard of a job computes some of its chunks and writes no output; `worker.kinds.merging` joins the parts of all shards.
Those of any other job are joined by `worker.kinds.finishing`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from nightshift.families.learner import Evaluation
from shared.errors import CorruptCheckpoint
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.states import WRITING
from shared.specs.jobs import BatchInferJob, Inference, check_inference
from worker import families
from worker.kinds import finishing, inference_engine, prediction_files
from worker.kinds.base_model import build, read_model, refuse
from worker.kinds.device_batch import FittedSource, memory_of
from worker.kinds.finishing import Unfinished
from worker.kinds.inference_stages import MakeTable, Stages
from worker.kinds.prediction_files import ERRORS, ROWS, Source
from worker.runners.messages import Assignment, Result, Shard, Started, Stopped
from worker.training import artifacts, training_log
from worker.training.numerics.allocator import keep_freed_memory
from worker.training.progress import ProgressMeter
from worker.training.reporter import Reporter
from worker.training.training_log import Pace

FORMAT = 1
FACTS = "part.json"
#: Folder of the plots in the part with the first row of a job that is divided.
FIGURES = "figures"
#: Approximate number of chunks. Fewer: a kill loses more work. More: more files and rows in SQL.
CHUNKS = 100
#: Most batches in a chunk. Too high: a stop waits long for the chunk's end.
MOST_BATCHES = 32


@dataclass(frozen=True)
class Part:
    """A finished chunk: rows `start` … `stop - 1` of the input."""

    point: CheckpointRecord
    folder: Path
    start: int
    stop: int
    errors: int
    threads: int | None
    #: What computed it; None: it has no rows to compute.
    engine: str | None
    #: The attempt that wrote it.
    fence: int
    #: Rows of the whole job.
    total: int


def run(assignment: Assignment, reporter: Reporter) -> Result | Stopped | Unfinished:
    """Run the job. Raises JobError."""
    keep_freed_memory()
    job = BatchInferJob.model_validate_json(json.dumps(assignment.spec))
    parent = read_model(assignment)
    refuse(check_inference(parent.family, job.inference))
    job_dir = Path(assignment.job_dir)
    checkpoint_files.sweep(job_dir, fence=assignment.fence)
    parts, damaged = restore(left_by(assignment))
    # Results are bitwise equal only for the same number of threads: all parts use that of the first.
    threads = next((part.threads for part in parts.values()), None) or assignment.threads
    learner = build(parent, job.inference.framework, assignment, threads)
    settled = _engine_of(parts.values()) or assignment.engine
    agree = reporter.agree if assignment.shard else None
    engine = inference_engine.choose(
        learner, parent, job.inference, assignment.device, threads, settled, reporter.log, agree
    )
    if engine.name != settled and settled is not None:
        reporter.log(f"the {len(parts):,} chunks that {settled} computed before are computed again", "warning")
        parts = {}
    folder = Path(assignment.dataset_dir) if assignment.dataset_dir else None

    def opened(rows: int) -> Source:
        how = job.inference.model_copy(update={"batch_size": rows})
        source: Source = families.part(parent.family, "open_source")(engine.learner, parent, how, folder)
        return source

    source = _fitted(opened, job.inference, assignment, reporter)
    parts = {start: part for start, part in parts.items() if part.stop <= source.total}
    wanted = share(chunks(source.total, job.inference.batch_rows), assignment.shard)
    newest = max(parts.values(), key=lambda part: part.stop, default=None)
    reporter.started(
        Started(
            pid=os.getpid(),
            device=assignment.device,
            resumed_from=newest.point.id if newest else None,
            resumed_step=newest.stop if newest else None,
            quarantined=damaged,
            total_steps=_rows_in(wanted),
        )
    )
    reporter.log(training_log.environment(job.inference.framework, assignment, threads))
    count = f"{len(wanted):,} chunks" + (f", {len(parts)} done before" if parts else "")
    reporter.log(f"{job.inference.task}s {_rows_in(wanted):,} rows in {count}")
    work = Work(job, parent.family, source, wanted, parts, job_dir, assignment, threads, lambda: engine.name, reporter)
    reason = work.run()
    if reason is not None and reason != "finish":
        return Stopped(reason=reason, step=work.done)
    if assignment.shard is not None:
        return counted(work.contiguous())
    reporter.phase(WRITING)
    return work.left()


def _fitted(
    opened: Callable[[int], Source], inference: Inference, assignment: Assignment, reporter: Reporter
) -> Source:
    """Return the source of the rows; on a GPU one whose batches fit into its memory."""
    if assignment.device == "cpu":
        return opened(inference.batch_rows)
    return FittedSource(opened, inference, memory_of(inference.framework), reporter.log)


# -- parts ----------------------------------------------------------------------------------------


def left_by(assignment: Assignment) -> Iterator[tuple[Path, CheckpointRecord]]:
    """Yield the parts that earlier attempts of the job and of its shards left, each with the job's folder."""
    yield from ((Path(assignment.job_dir), point) for point in assignment.resume)
    for shard in assignment.divided:
        yield from ((Path(shard.job_dir), point) for point in shard.parts)


def restore(left: Iterable[tuple[Path, CheckpointRecord]]) -> tuple[dict[int, Part], list[str]]:
    """Return the intact parts by their first row, and the ids of damaged ones.

    All are of one engine, that of the newest attempt: only a worker that could not use the one before took another.
    """
    parts: list[Part] = []
    damaged: list[str] = []
    for job_dir, point in left:
        try:
            checkpoint_files.verify(job_dir / point.path, point.sha256)
            parts.append(_read(job_dir, point))
        except CorruptCheckpoint:
            damaged.append(point.id)
    parts.sort(key=lambda part: (part.start, -part.fence))
    engine, kept = _engine_of(parts), dict[int, Part]()
    for part in parts:
        if part.engine in (engine, None):
            kept.setdefault(part.start, part)
    return kept, damaged


def _engine_of(parts: Iterable[Part]) -> str | None:
    """Return the engine of the newest attempt that computed a row."""
    newest = max((part for part in parts if part.engine is not None), key=lambda part: part.fence, default=None)
    return newest.engine if newest else None


def _read(job_dir: Path, point: CheckpointRecord) -> Part:
    facts = json.loads((job_dir / point.path / FACTS).read_text())
    if facts.get("format") != FORMAT:
        raise CorruptCheckpoint(point.path, f"format {facts.get('format')} is not {FORMAT}")
    engine = facts.get("engine", inference_engine.FRAMEWORK)  # earlier versions had no other
    folder, start, stop, total = job_dir / point.path, facts["start"], facts["stop"], facts.get("total", 0)
    return Part(point, folder, start, stop, facts["errors"], facts["threads"], engine, facts["fence"], total)


@dataclass
class Work:
    """The finished and missing chunks of one job, or of one of its shards."""

    job: BatchInferJob
    family: str
    source: Source
    chunks: list[tuple[int, int]]
    parts: dict[int, Part]
    job_dir: Path
    assignment: Assignment
    threads: int | None
    engine: Callable[[], str | None]
    reporter: Reporter
    figures: dict[str, checkpoint_files.Content] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Number of rows done."""
        return sum(part.stop - part.start for part in self.parts.values())

    def run(self) -> str | None:
        """Compute missing chunks in order; return the reason of a stop. `finish` waits for the first chunk.

        While a chunk is computed, the one before it is written and the next one is read. At each question whether to
        stop, all chunks before it are written; one that is already computed then is left out.
        """
        whole = self.source.total if self.assignment.shard else None
        meter = ProgressMeter(_rows_in(self.chunks), 1, self.done, self.reporter, phase="infer", whole_steps=whole)
        missing = [bounds for bounds in self.chunks if bounds[0] not in self.parts]
        if not missing:
            return None
        if reason := self._stop():
            return reason
        self._draw()
        pace, written = Pace(), None
        with Stages(self.source, missing) as stages, ThreadPoolExecutor(1, "inference-writer") as writer:
            for (start, stop), make_table in self._computed(stages, meter):
                if written is not None:
                    self._keep(written.result(), meter, pace)
                    if reason := self._stop():
                        return reason
                written = writer.submit(self._write, start, stop, make_table)
            if written is not None:
                self._keep(written.result(), meter, pace)
        return None

    def _stop(self) -> str | None:
        """Return the reason to stop. `finish` waits for the first chunk of the job, which is one shard's."""
        reason = self.reporter.stop_requested()
        return reason if reason != "finish" or self.chunks[0][0] or 0 in self.parts else None

    def _draw(self) -> None:
        """Draw the plots of a job that is divided, because its shards alone have the model."""
        if self.assignment.shard is not None and self.chunks[0][0] == 0 and 0 not in self.parts:
            folder = Path(self.assignment.work_dir) / FIGURES
            folder.mkdir(exist_ok=True)
            drawn = finishing.draw(self.family, shown, folder) if (shown := self.shown()) else []
            self.figures = {f"{FIGURES}/{path.name}": [path.read_bytes()] for path in drawn}

    def shown(self) -> Evaluation | None:
        """Compute what the figures show; None: there are none."""
        arrays = self.source.shown()
        return Evaluation({}, {}, arrays) if arrays else None

    def _computed(self, stages: Stages, meter: ProgressMeter) -> Iterator[tuple[tuple[int, int], MakeTable]]:
        sizes: set[int] = set()
        for start, stop in stages.chunks:
            if stop - start not in sizes:  # the first chunk of a size may be compiled
                sizes.add(stop - start)
                meter.enter("first_step")
            make_table = stages.compute(start, stop)
            meter.enter("infer")
            yield (start, stop), make_table

    def _keep(self, part: Part, meter: ProgressMeter, pace: Pace) -> None:
        self.parts[part.start] = part
        meter.stepped(self.done, 0)
        total = _rows_in(self.chunks)
        if pace.due() or self.done == total:
            self.reporter.log(f"{self.done:,} of {total:,} rows done")

    def _write(self, start: int, stop: int, make_table: MakeTable) -> Part:
        table, bad = make_table()
        engine, fence, total = self.engine(), self.assignment.fence, self.source.total
        facts = {
            "format": FORMAT, "fence": fence, "start": start, "stop": stop, "errors": len(bad),
            "threads": self.threads, "engine": engine, "total": total,
        }  # fmt: skip
        content: Mapping[str, checkpoint_files.Content] = {
            FACTS: [json.dumps(facts, sort_keys=True).encode()],
            ROWS: [prediction_files.encode(table, self.job.inference.output)],
            ERRORS: [prediction_files.encode_errors(bad)],
            **(self.figures if start == 0 else {}),
        }
        saved = checkpoint_files.write(self.job_dir, step=stop, fence=fence, files=content)
        self.reporter.checkpoint(saved)
        folder = self.job_dir / saved.path
        return Part(saved, folder, start, stop, len(bad), self.threads, engine, fence, total)

    def contiguous(self) -> list[Part]:
        """Return the parts from the first row up to the first gap."""
        return contiguous(self.parts, self.chunks[0][0] if self.chunks else 0)

    # -- the end of the job -----------------------------------------------------------------------

    def left(self) -> Unfinished:
        """Return the parts to join and what the figures show, which alone needs the model."""
        parts, root, output = self.contiguous(), artifacts.folder(self.assignment), self.job.inference.output
        empty = [] if parts else prediction_files.join([], output, root, self.source.schema)
        shown = self.shown()
        return Unfinished(
            counted(parts),
            self.family,
            shown,
            [path.relative_to(root).as_posix() for path in empty],
            parts={str(part.folder): part.point.sha256 for part in parts},
            is_small=shown is None and sum(part.point.size_bytes for part in parts) < finishing.SMALL_BYTES,
        )


def contiguous(parts: Mapping[int, Part], first: int = 0) -> list[Part]:
    """Return the parts from a row up to the first gap."""
    found: list[Part] = []
    for _, part in sorted(parts.items()):
        if part.start != (found[-1].stop if found else first):
            break
        found.append(part)
    return found


def chunks(total: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the (start, stop) of all chunks; each but the last has full batches."""
    batches = min(MOST_BATCHES, -(-total // (batch_size * CHUNKS)))
    size = max(1, batches) * batch_size
    return [(start, min(total, start + size)) for start in range(0, total, size)]


def share(every: list[tuple[int, int]], shard: Shard | None) -> list[tuple[int, int]]:
    """Return the chunks of a shard, which follow one another; None: all of them."""
    if shard is None:
        return every
    ends = [place * len(every) // shard.shards for place in (shard.place, shard.place + 1)]
    return every[ends[0] : ends[1]]


def _rows_in(bounds: Iterable[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in bounds)


def counted(parts: Sequence[Part]) -> Result:
    """Return the result of a job that has these parts."""
    rows, errors = sum(part.stop - part.start for part in parts), sum(part.errors for part in parts)
    return Result(metrics={"rows": float(rows - errors), "errors": float(errors)}, step=rows)
