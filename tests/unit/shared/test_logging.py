"""Log lines: JSON that names the process and the subject, also for lines that a library wrote."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from shared import logging as observability
from shared.events import emit, log_context
from shared.settings import Settings


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root, hook = logging.getLogger(), threading.excepthook
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
    observability.configure_logging(Settings(log_format="json"), "worker")
    yield screen
    logging.captureWarnings(False)
    threading.excepthook = hook
    root.handlers[:], root.level = before
    assert observability._unsubscribe is not None
    observability._unsubscribe()
    observability._unsubscribe = None


def lines(screen: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in screen.getvalue().splitlines()]


def test_every_line_says_what_it_is_about(screen: io.StringIO) -> None:
    with log_context(job_id="a1b2", attempt=3):
        emit("checkpoint.quarantined", path="x")
        logging.getLogger("some.library").warning("odd")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", stacklevel=1)
    for line in (told := lines(screen)):
        assert (line["process"], line["job_id"], line["attempt"]) == ("worker", "a1b2", 3)
    assert [line["event"].split(":")[0] for line in told][:2] == ["checkpoint.quarantined", "odd"]
    assert "UserWarning: old" in told[2]["event"]


def test_what_a_line_says_itself_comes_first(screen: io.StringIO) -> None:
    with log_context(job_id="a1b2", attempt=3):
        emit("job.rescued", job_id="ffff", attempt=1)
    emit("worker.ready", worker="cpu0@host")
    first, second = lines(screen)
    assert (first["job_id"], first["attempt"]) == ("ffff", 1)
    assert "job_id" not in second


def test_a_thread_says_what_its_starter_was_about(screen: io.StringIO) -> None:
    with log_context(job_id="a1b2", attempt=3):
        thread = threading.Thread(target=copy_context().run, args=(emit, "lease.lost"))
        thread.start()
        thread.join()
    assert lines(screen)[0]["job_id"] == "a1b2"


def test_a_thread_that_dies_is_told_with_its_traceback(screen: io.StringIO) -> None:
    def die() -> None:
        raise ValueError("ouch")

    thread = threading.Thread(target=die, name="presence")
    thread.start()
    thread.join()
    (line,) = lines(screen)
    assert "presence" in line["event"]
    assert "ValueError: ouch" in line["exception"]
