"""What a watcher sees: plain lines on a pipe, blocks that fit on a terminal, exit codes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from api.client.sdk import Client, Job
from api.client.shapes import Event
from api.client.watching import OUTCOME_UNKNOWN, Watched, block, watch
from shared.errors import Unavailable
from tests.support.fake_api import ID, OTHER_ID, FakeApi, job_data

#: A training run as it was recorded, with a crash and a resume in the middle.
RECORDED: list[tuple[int, str, dict[str, Any]]] = [
    (1, "state", {"state": "queued"}),
    (2, "state", {"state": "running", "attempt": 1, "worker": "cpu0@host"}),
    (3, "progress", {"step": 0, "total_steps": 40, "epoch": 0, "phase": "load"}),
    (4, "metric", {"name": "loss", "step": 5, "epoch": 0, "value": 2.25}),
    (5, "progress", {"step": 10, "total_steps": 40, "epoch": 0, "eta_seconds": 61.2, "samples_per_second": 3210.4}),
    (6, "progress", {"step": 11, "total_steps": 40, "epoch": 0, "eta_seconds": 60, "samples_per_second": 3210.4}),
    (7, "metric", {"name": "val_loss", "step": 20, "epoch": 1, "value": 0.25}),
    (77, "metric", {"name": "val_accuracy", "step": 20, "epoch": 1, "value": 0.91}),
    (78, "progress", {"step": 12, "total_steps": 40, "epoch": 0, "eta_seconds": 60, "samples_per_second": 3210.4}),
    (80, "state", {"state": "queued", "attempt": 1}),
    (90, "state", {"state": "running", "attempt": 2, "stop_requested": "finish"}),
    (100, "progress", {"step": 40, "total_steps": 40, "epoch": 2, "eta_seconds": 0, "samples_per_second": 3210.4}),
    (110, "artifact", {"path": "curves.png"}),
    (120, "state", {"state": "succeeded"}),
]
RESULT = {"metrics": {"test_accuracy": 0.98123, "test_loss": 0.0512}, "artifacts": ["curves.png"]}


@pytest.fixture
def fake() -> FakeApi:
    fake = FakeApi()
    fake.jobs[ID] = job_data(state="succeeded", result=RESULT)
    fake.events[ID] = RECORDED
    return fake


def jobs(fake: FakeApi) -> list[Job]:
    client = Client("http://api.test", "key", transport=fake.transport)
    return [client.job(job_id) for job_id in fake.jobs]


def watched_lines(fake: FakeApi, code: int = 0) -> list[str]:
    out = Console(file=io.StringIO(), width=10_000)
    assert watch(jobs(fake), out) == code
    return out.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_pipe_gets_a_line_per_change_validation_and_tenth(fake: FakeApi) -> None:
    assert watched_lines(fake) == [
        "queued",
        "running",
        "running    step 10/40  epoch 0/5  loss 2.2500  3,210/s  ETA 1:01",
        "running    step 12/40  epoch 0/5  loss 2.2500  val_loss 0.2500  val_accuracy 0.9100  3,210/s  ETA 1:00",
        "queued     step 12/40  epoch 0/5  loss 2.2500  val_loss 0.2500  val_accuracy 0.9100",
        "running    step 12/40  epoch 0/5  loss 2.2500  val_loss 0.2500  val_accuracy 0.9100  attempt 2  finish requested",
        "running    step 40/40  epoch 2/5  loss 2.2500  val_loss 0.2500  val_accuracy 0.9100  attempt 2  finish requested  3,210/s  ETA 0:00",
        "succeeded  step 40/40  epoch 2/5  loss 2.2500  val_loss 0.2500  val_accuracy 0.9100",
        "succeeded  test_accuracy 0.9812  test_loss 0.0512",
    ]


def test_several_jobs_are_told_apart_and_the_worst_outcome_counts(fake: FakeApi) -> None:
    error = {"type": "non_finite_loss", "message": "the loss became nan at step 7", "retryable": False}
    fake.jobs[OTHER_ID] = job_data(OTHER_ID, state="failed", error=error)
    fake.events[OTHER_ID] = [(1, "state", {"state": "failed"})]
    lines = watched_lines(fake, code=1)
    assert f"{OTHER_ID}  failed     non_finite_loss: the loss became nan at step 7" in lines
    assert sum(line.startswith(ID) for line in lines) == 9


def test_losing_the_api_is_an_outcome_of_its_own(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: Job) -> Iterator[Event]:
        yield Event(1, "state", None, {"state": "running"})
        raise Unavailable("gone for 300 s.")

    monkeypatch.setattr(Job, "events", lost)
    assert watched_lines(fake, OUTCOME_UNKNOWN)[-1] == "running    gone for 300 s. The job goes on without us."


def test_a_defect_in_listening_does_not_hang_the_watcher(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "events", lambda self: 1 / 0)
    assert "ZeroDivisionError" in watched_lines(fake, OUTCOME_UNKNOWN)[-1]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_blocks_fit_every_width_at_every_moment(fake: FakeApi, width: int) -> None:
    job = jobs(fake)[0]
    job.data["name"] = "a rather long name of a job that somebody gave it, with more to come"
    watched = Watched.of(job)
    for seq, kind, data in RECORDED:
        watched.apply(Event(seq, kind, None, data))
        out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        out.print(block(watched, width))
        lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert max(map(len, lines)) <= width
        assert watched.state in lines[0]
        assert lines[0].startswith(ID[:8])


def test_a_terminal_ends_with_the_result(fake: FakeApi) -> None:
    out = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={"TERM": "xterm"})
    assert watch(jobs(fake), out) == 0
    screen = out.file.getvalue()  # type: ignore[attr-defined]
    assert "100%" in screen
    assert "test_accuracy 0.9812" in screen


def test_a_dumb_terminal_gets_plain_lines(fake: FakeApi) -> None:
    out = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, _environ={"TERM": "dumb"})
    watch(jobs(fake), out)
    assert "\x1b" not in out.file.getvalue()  # type: ignore[attr-defined]
