"""Chunks of batch inference: read ahead, written behind, in order; errors of each side; what a resume keeps."""

from __future__ import annotations

import errno
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.testing.attempts import NullReporter
from shared.errors import BadData
from shared.job_files import checkpoint_files
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.specs.jobs import BatchInferJob
from worker.kinds import batch_inference, finishing
from worker.kinds.batch_inference import Part, Work, chunks, restore, share
from worker.kinds.prediction_files import BadRow, StagedSource
from worker.runners.messages import Assignment, Shard

SCHEMA = pa.schema([("row", pa.int64())])
ROWS, BATCH = 10, 3


@dataclass
class Rows(StagedSource):
    """Rows that are their own prediction, and what happened to them in which thread."""

    bad_from: int = ROWS
    total = ROWS
    schema = SCHEMA
    events: list[tuple[str, int]] = field(default_factory=list)
    threads: dict[str, set[str]] = field(default_factory=dict)

    def _note(self, what: str, start: int) -> None:
        self.events.append((what, start))
        self.threads.setdefault(what, set()).add(threading.current_thread().name)

    def read(self, start: int, stop: int) -> range:
        if stop > self.bad_from:
            raise BadData(f"row {self.bad_from} cannot be read")
        self._note("read", start)
        return range(start, stop)

    def predict(self, read: range) -> range:
        self._note("predict", read.start)
        return read

    def table(self, read: range, found: range) -> tuple[pa.Table, list[BadRow]]:
        self._note("table", read.start)
        return pa.table([list(found)], schema=SCHEMA), []


class Recorded(NullReporter):
    """Keeps the checkpoints, and asks `at` whether to go on."""

    def __init__(self, stops: dict[int, str] | None = None) -> None:
        super().__init__(stops)
        self.parts: list[CheckpointRecord] = []

    def checkpoint(self, frame: Any) -> None:
        self.parts.append(frame)


def work(folder: Path, source: Any, reporter: Any, parts: dict[int, Part] | None = None, engine: str = "x") -> Work:
    body = {"kind": "batch_infer", "model_ref": "m", "dataset": "d", "inference": {"batch_size": BATCH}}
    job = BatchInferJob.model_validate(body)
    assigned = Assignment(job_id="j", fence=1, spec={}, job_dir=str(folder), work_dir=str(folder))
    every = chunks(source.total, BATCH)
    return Work(job, "any", source, every, parts or {}, folder, assigned, 1, lambda: engine, reporter)


def rows_of(folder: Path, part: CheckpointRecord) -> list[int]:
    with pa.memory_map(str(folder / part.path / "rows")) as file, pa.ipc.open_stream(file) as stream:
        found: list[int] = stream.read_all()["row"].to_pylist()
        return found


def test_the_rows_are_written_once_in_order(tmp_path: Path) -> None:
    reporter = Recorded()
    done = work(tmp_path, Rows(), reporter)
    assert done.run() is None
    assert [row for part in reporter.parts for row in rows_of(tmp_path, part)] == list(range(ROWS))
    assert done.done == ROWS
    assert reporter.asked + 1 == len(reporter.parts) == 4, "it asks once before each chunk"


def test_reading_computing_and_writing_have_threads_of_their_own(tmp_path: Path) -> None:
    source = Rows()
    work(tmp_path, source, Recorded()).run()
    assert source.threads["predict"] == {threading.current_thread().name}
    assert not source.threads["read"] & source.threads["predict"]
    assert not source.threads["table"] & (source.threads["predict"] | source.threads["read"])
    assert all(not thread.name.startswith("inference") for thread in threading.enumerate())


def test_the_next_chunk_is_read_and_computed_while_one_is_written(tmp_path: Path) -> None:
    """Writing the first chunk waits for the second one to be computed, which is read meanwhile."""
    computed = threading.Event()

    class Waiting(Rows):
        def predict(self, read: range) -> range:
            if read.start == BATCH:
                computed.set()
            return super().predict(read)

        def table(self, read: range, found: range) -> tuple[pa.Table, list[BadRow]]:
            if read.start == 0:
                assert computed.wait(60), "the second chunk is not computed before the first is written"
            return super().table(read, found)

    assert work(tmp_path, Waiting(), Recorded()).run() is None


def test_no_more_than_the_next_chunk_is_read_ahead(tmp_path: Path) -> None:
    class Counted(Rows):
        def predict(self, read: range) -> range:
            assert max(start for what, start in self.events if what == "read") <= read.start + BATCH
            return super().predict(read)

    assert work(tmp_path, Counted(), Recorded()).run() is None


def test_an_error_of_the_reader_ends_the_job_after_the_chunks_before_it(tmp_path: Path) -> None:
    reporter = Recorded()
    with pytest.raises(BadData, match="row 7 cannot be read"):
        work(tmp_path, Rows(bad_from=7), reporter).run()
    assert [rows_of(tmp_path, part) for part in reporter.parts] == [[0, 1, 2], [3, 4, 5]]


def test_an_error_of_the_writer_ends_the_job_and_lists_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = checkpoint_files.write

    def full(folder: Path, *, step: int, **how: Any) -> CheckpointRecord:
        if step > BATCH:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(folder, step=step, **how)

    monkeypatch.setattr(batch_inference.checkpoint_files, "write", full)
    reporter = Recorded()
    with pytest.raises(OSError, match="No space left"):
        work(tmp_path, Rows(), reporter).run()
    assert [rows_of(tmp_path, part) for part in reporter.parts] == [[0, 1, 2]]


@pytest.mark.parametrize("reason", ["cancel", "pause", "finish"])
def test_a_stop_keeps_the_chunks_before_it(tmp_path: Path, reason: str) -> None:
    reporter = Recorded({2: reason})
    done = work(tmp_path, Rows(), reporter)
    assert done.run() == reason
    assert (done.done, len(reporter.parts)) == (6, 2)


def test_finish_waits_for_the_first_chunk_and_pause_for_none(tmp_path: Path) -> None:
    first, second = Recorded({0: "finish", 1: "finish"}), Recorded({0: "pause"})
    source = Rows()
    assert work(tmp_path / "a", source, first).run() == "finish"
    assert len(first.parts) == 1
    source.events.clear()
    assert work(tmp_path / "b", source, second).run() == "pause"
    assert [what for what, _ in source.events if what != "read"] == []


# -- resumes --------------------------------------------------------------------------------------


def part(folder: Path, start: int, fence: int, **facts: Any) -> CheckpointRecord:
    about = {"format": 1, "fence": fence, "start": start, "stop": start + BATCH, "errors": 0, "threads": 1, **facts}
    files = {"part.json": [json.dumps(about).encode()], "rows": [b"%d %d" % (start, fence)], "errors.jsonl": [b""]}
    return checkpoint_files.write(folder, step=start + BATCH, fence=fence, files=files)


def test_parts_are_those_of_one_engine(tmp_path: Path) -> None:
    """A worker without ONNX Runtime took the job over: what it computed is kept, not what came before."""
    before = [part(tmp_path, 0, 1, engine="onnxruntime"), part(tmp_path, 3, 1, engine="onnxruntime")]
    after = [part(tmp_path, 0, 2, engine="framework"), part(tmp_path, 6, 2, engine=None)]
    parts, damaged = restore((tmp_path, point) for point in (*after, *before))
    assert not damaged
    assert {start: (kept.fence, kept.engine) for start, kept in parts.items()} == {0: (2, "framework"), 6: (2, None)}


def test_parts_of_an_earlier_version_are_the_frameworks(tmp_path: Path) -> None:
    parts, _ = restore([(tmp_path, part(tmp_path, 0, 1))])
    assert parts[0].engine == "framework"


# -- the end --------------------------------------------------------------------------------------


def test_the_parts_are_left_in_order_up_to_the_first_gap(tmp_path: Path) -> None:
    reporter = Recorded()
    done = work(tmp_path, Rows(), reporter)
    done.run()
    written = {str(tmp_path / part.path): part.sha256 for part in reporter.parts}
    assert list(done.left().parts.items()) == list(written.items())
    del done.parts[6]
    assert list(done.left().parts) == list(written)[:2]
    assert done.left().result.metrics == {"rows": 6.0, "errors": 0.0}


def test_few_bytes_are_joined_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Recorded()
    done = work(tmp_path, Rows(), reporter)
    done.run()
    size = sum(part.size_bytes for part in reporter.parts)
    for limit, is_small in ((size, False), (size + 1, True)):
        monkeypatch.setattr(finishing, "SMALL_BYTES", limit)
        assert done.left().is_small is is_small


def test_what_has_pictures_is_not_drawn_on_the_device(tmp_path: Path) -> None:
    class Shown(Rows):
        def shown(self) -> dict[str, Any]:
            return {"samples": np.zeros(1, np.uint8)}

    left = work(tmp_path, Shown(), Recorded()).left()
    assert left.report is not None
    assert (list(left.report.arrays), left.is_small) == (["samples"], False)


def test_a_job_without_rows_leaves_a_file_without_rows(tmp_path: Path) -> None:
    class Empty(Rows):
        total = 0

    left = work(tmp_path, Empty(), Recorded()).left()
    assert (left.written, left.parts) == (["predictions.parquet"], {})
    assert pq.read_table(tmp_path / "artifacts" / "predictions.parquet").schema == SCHEMA


# -- shards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [0, 1, 9, 10, 1797])
@pytest.mark.parametrize("shards", [1, 2, 7, 64])
def test_each_chunk_is_in_one_shard_and_the_shards_are_in_order(total: int, shards: int) -> None:
    every = chunks(total, BATCH)
    shares = [share(every, Shard(place=place, shards=shards)) for place in range(shards)]
    assert [bounds for one in shares for bounds in one] == every
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
