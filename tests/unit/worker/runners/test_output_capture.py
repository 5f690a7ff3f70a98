"""Lines out of pipes, within a budget."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from worker.runners.output_capture import BURST_LINES, LINES_PER_SECOND, MAX_LINE_BYTES, LineReader, LogRateLimiter


@pytest.fixture
def pipe() -> Iterator[tuple[LineReader, int]]:
    read, write = os.pipe()
    lines = LineReader(read, keep_tail=2)
    yield lines, write
    lines.close()


def test_lines_come_whole_however_they_were_written(pipe: tuple[LineReader, int]) -> None:
    lines, write = pipe
    os.write(write, "first\nsecö".encode()[:-1])
    assert lines.read() == ["first"]
    os.write(write, "ö".encode()[1:] + b"nd\n\nlast")
    assert lines.read() == ["secönd"]
    assert lines.read() == []
    os.close(write)
    assert lines.read() == ["last"]
    assert lines.ended
    assert lines.tail() == "secönd | last"


def test_a_progress_bar_is_lines_and_an_endless_line_is_cut(pipe: tuple[LineReader, int]) -> None:
    lines, write = pipe
    os.write(write, b"10%\r20%\r" + b"x" * (2 * MAX_LINE_BYTES + 1))
    assert [len(line) for line in lines.read()] == [3, 3, MAX_LINE_BYTES, MAX_LINE_BYTES, 1]
    os.close(write)


def test_bytes_that_are_no_text_are_shown_as_such(pipe: tuple[LineReader, int]) -> None:
    lines, write = pipe
    os.write(write, b"\xff\x00ok\n")
    assert lines.read() == ["\ufffd\x00ok"]
    os.close(write)


def test_what_is_skipped_is_counted_and_its_end_remembered(pipe: tuple[LineReader, int]) -> None:
    lines, write = pipe
    os.write(write, b"a\nb\nc\n")
    assert lines.skip() == (3, 6)
    assert lines.tail() == "b | c"
    assert lines.skip() == (0, 0)
    os.close(write)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_of_bytes_and_of_lines_per_second() -> None:
    clock = Clock()
    budget = LogRateLimiter(1_000_000, clock)
    assert sum(budget.admits("x") for _ in range(BURST_LINES + 50)) == BURST_LINES
    assert budget.spent()
    assert "50 lines" in str(budget.notice())
    assert budget.notice() is None
    clock.now += 1
    assert sum(budget.admits("x") for _ in range(1000)) == LINES_PER_SECOND
    small = LogRateLimiter(10, clock)
    assert [small.admits("12345678"), small.admits("12345678"), small.admits("12")] == [True, False, True]
    assert small.spent()
