"""The batch of inference on a device: as large as fits, halved where memory runs out, kept for the attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from shared.specs.jobs import Inference
from worker.kinds.device_batch import FittedSource, largest
from worker.kinds.inference_stages import Stages
from worker.kinds.prediction_files import BadRow, Source, StagedSource

SCHEMA = pa.schema([("row", pa.int64())])
MIB = 1 << 20
#: Rows of a chunk, and of all chunks.
CHUNK, ROWS = 4 * 256, 20 * 256


class OutOfMemoryError(RuntimeError):
    """What torch raises if the memory of a device does not suffice."""


@dataclass
class Card:
    """A device whose batches take a MiB for each row, beside what is in use."""

    memory: int
    resident: int = 0
    #: Rows of each batch that was computed, or tried.
    batches: list[int] = field(default_factory=list)
    given_back: int = 0
    peak: int = 0

    def compute(self, rows: int) -> None:
        self.batches.append(rows)
        if self.resident + rows * MIB > self.memory:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 MiB")
        self.peak = max(self.peak, rows * MIB)

    def begin(self) -> None:
        self.peak = 0

    def taken(self) -> int:
        return self.peak

    def free(self) -> int:
        return self.memory - self.resident

    def give_back(self) -> None:
        self.given_back += 1


@dataclass
class Rows(Source):
    """Rows that are their own prediction, computed in batches on a card."""

    card: Card
    batch_size: int
    total: int = ROWS
    schema = SCHEMA
    error: Exception | None = None

    def computed(self, start: int, stop: int) -> list[int]:
        if self.error is not None:
            raise self.error
        for at in range(start, stop, self.batch_size):
            self.card.compute(min(self.batch_size, stop - at))
        return list(range(start, stop))

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        return pa.table([self.computed(start, stop)], schema=SCHEMA), [BadRow(str(start), start, "bad")]


class StagedRows(Rows, StagedSource):
    """The same in stages."""

    def read(self, start: int, stop: int) -> range:
        return range(start, stop)

    def predict(self, read: range) -> list[int]:
        return self.computed(read.start, read.stop)

    def table(self, read: range, found: list[int]) -> tuple[pa.Table, list[BadRow]]:
        return pa.table([found], schema=SCHEMA), [BadRow(str(read.start), read.start, "bad")]

    rows = StagedSource.rows


@dataclass
class Job:
    """A job on a card, the lines of its log, and the batch sizes its source was opened with."""

    source: FittedSource
    lines: list[str]
    opened: list[int]

    def run(self, chunks: int = ROWS // CHUNK) -> list[int]:
        return [row for table, bad in self.tables(chunks) for row in table["row"].to_pylist()]

    def tables(self, chunks: int) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        bounds = [(start, start + CHUNK) for start in range(0, chunks * CHUNK, CHUNK)]
        with Stages(self.source, bounds) as stages:
            for start, stop in bounds:
                yield stages.compute(start, stop)()


Begin = Callable[..., Job]


@pytest.fixture(params=[Rows, StagedRows], ids=["whole", "staged"])
def begin(request: pytest.FixtureRequest) -> Begin:
    """Return a job on a card, whose source has stages or none."""

    def begun(card: Card, batch_size: int | str = "auto", **more: Any) -> Job:
        lines, opened = list[str](), list[int]()

        def source(rows: int) -> Source:
            opened.append(rows)
            made: Source = request.param(card, rows, **more)
            return made

        inference = Inference.model_validate({"batch_size": batch_size})
        fitted = FittedSource(source, inference, card, lambda line, level="info": lines.append(line))
        return Job(fitted, lines, opened)

    return begun


def test_the_first_chunk_shows_what_fits_and_the_others_use_it(begin: Begin) -> None:
    card = Card(memory=800 * MIB)
    job = begin(card)
    assert job.run() == list(range(ROWS))
    assert job.opened == [256, 512], "640 MiB are eight tenths of the memory: two times 256 rows fit"
    assert card.batches == [256] * 4 + [512] * 8
    (line,) = job.lines
    assert "512 rows at a time" in line


def test_no_batch_has_more_rows_than_a_chunk(begin: Begin) -> None:
    card = Card(memory=10**6 * MIB)
    job = begin(card)
    assert job.run() == list(range(ROWS))
    assert card.batches == [256] * 4 + [CHUNK] * 4
    assert "1,024 rows at a time" in job.lines[0]


def test_what_other_data_take_is_not_for_batches(begin: Begin) -> None:
    card = Card(memory=10**6 * MIB, resident=(10**6 - 400) * MIB)
    job = begin(card)
    job.run()
    assert set(card.batches) == {256}
    assert job.opened == [256], "there is nothing to open again"


def test_a_number_does_not_grow(begin: Begin) -> None:
    card = Card(memory=10**6 * MIB)
    job = begin(card, 128)
    assert job.run() == list(range(ROWS))
    assert set(card.batches) == {128}
    assert job.lines == []


@pytest.mark.parametrize("batch_size", ["auto", 256])
def test_out_of_memory_halves_the_batch_for_the_rest_of_the_attempt(begin: Begin, batch_size: int | str) -> None:
    card = Card(memory=100 * MIB)
    job = begin(card, batch_size)
    assert job.run() == list(range(ROWS)), "each row is there once"
    assert card.batches[:2] == [256, 128]
    assert card.batches[2:] == [64] * (ROWS // 64)
    assert (job.opened, card.given_back) == ([256, 128, 64], 2)
    assert len(job.lines) == 2
    assert "out of memory" in job.lines[-1]
    assert "64" in job.lines[-1]


def test_a_batch_that_grew_too_far_is_halved_once_and_does_not_grow_again(begin: Begin) -> None:
    """Something else takes memory after the measurement."""
    card = Card(memory=10**4 * MIB)
    job = begin(card)
    tables = job.tables(5)
    found = [next(tables)]
    card.resident = card.memory - 600 * MIB
    found += tables
    assert [row for table, _ in found for row in table["row"].to_pylist()] == list(range(ROWS))
    assert card.batches == [256] * 4 + [CHUNK] + [512] * 8
    assert job.opened == [256, CHUNK, 512]


def test_halving_begins_at_the_rows_that_there_are(begin: Begin) -> None:
    card = Card(memory=600 * MIB)
    job = begin(card, 65_536)
    job.run()
    assert (job.opened, card.batches) == ([65_536, 512], [CHUNK] + [512] * 10)


def test_a_single_row_that_does_not_fit_is_the_jobs_error(begin: Begin) -> None:
    card = Card(memory=0)
    job = begin(card, 8)
    with pytest.raises(OutOfMemoryError):
        job.run()
    assert card.batches == [8, 4, 2, 1]
    assert len(job.lines) == 3


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA error: unspecified launch failure"), KeyError("x")]
)
def test_other_errors_are_the_jobs_at_once(begin: Begin, error: Exception) -> None:
    job = begin(Card(memory=10**6 * MIB), 8, error=error)
    with pytest.raises(type(error)):
        job.run()
    assert (job.opened, job.lines) == ([8], [])


def test_a_chunk_without_a_batch_measures_nothing(begin: Begin) -> None:
    """All of its rows are bad, or a CPU computes them."""
    card = Card(memory=10**6 * MIB)
    job = begin(card)
    begun = card.taken
    card.taken = lambda: 0  # type: ignore[method-assign]
    tables = job.tables(3)
    next(tables)
    assert job.opened == [256]
    card.taken = begun  # type: ignore[method-assign]
    next(tables)
    assert job.opened == [256, CHUNK]


def test_what_the_source_says_of_itself_is_passed_on(begin: Begin) -> None:
    job = begin(Card(memory=10**6 * MIB))
    table, bad = job.source.rows(3, 5)
    assert (table["row"].to_pylist(), bad) == ([3, 4], [BadRow("3", 3, "bad")])
    assert (job.source.total, job.source.schema) == (ROWS, SCHEMA)
    assert job.source.shown() == {}


@pytest.mark.parametrize(
    ("taken", "free", "most", "rows"),
    [
        (256, 10_000, 8192, 7936),  # 8,000 of 10,000 bytes
        (256, 10_000, 1024, 1024),
        (256, 10_000, 1000, 768),
        (256, 100, 8192, 256),
        (1, 10**12, 100, 256),
    ],
)
def test_the_largest_batch_is_a_multiple_of_the_smallest(taken: int, free: int, most: int, rows: int) -> None:
    assert largest(taken, free, most) == rows
