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
    assert [len(line) for line in lines.read()] == [3, 3, MAX_LINE_BYTES, 1]
    os.close(write)
    assert [len(line) for line in lines.read()] == [MAX_LINE_BYTES]


SECRET = b"hunter2-is-not-a-word"


@pytest.mark.parametrize("start", range(MAX_LINE_BYTES - len(SECRET), MAX_LINE_BYTES + 1))
def test_a_secret_is_hidden_wherever_a_long_line_is_cut(pipe: tuple[LineReader, int], start: int) -> None:
    lines, write = pipe
    lines.hidden = lambda line: line.replace(SECRET, b"*")
    text = b"x" * start + SECRET + b"y" * 3 * MAX_LINE_BYTES
    found = []
    for piece in (text[: start + 3], text[start + 3 : start + 9], text[start + 9 :]):
        os.write(write, piece)
        found += lines.read()
    os.close(write)
    found += lines.read()
    assert "".join(found) == "x" * start + "*" + "y" * 3 * MAX_LINE_BYTES


def test_a_secret_is_hidden_where_skipping_begins_and_ends(pipe: tuple[LineReader, int]) -> None:
    lines, write = pipe
    lines.hidden = lambda line: line.replace(SECRET, b"*")
    os.write(write, b"a\nsecond " + SECRET[:9])
    assert lines.read() == ["a"]
    os.write(write, SECRET[9:] + b" of all\nthird " + SECRET[:5])
    lines.skip()
    assert lines.tail() == "a | second * of all"
    os.write(write, SECRET[5:] + b"\n")
    assert lines.read() == ["third *"]
    os.write(write, b"x" * 5_000 + SECRET + b"\nlast " + SECRET[:7])
    lines.skip()
    os.write(write, SECRET[7:])
    os.close(write)
    lines.skip()
    assert SECRET[:4].decode() not in lines.tail()
    lines.skip()
    assert lines.tail().endswith("last *")


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
