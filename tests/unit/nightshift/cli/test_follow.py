"""What a watcher sees: plain lines on a pipe, blocks that fit on a terminal, exit codes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from nightshift.cli.follow import OUTCOME_UNKNOWN, watch
from nightshift.cli.job_progress import CURVE_POINTS, JobProgress
from nightshift.cli.render.screens import block
from nightshift.client.client import Client, Job
from nightshift.client.types import Event
from nightshift.errors import Unavailable
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
]
#: Of the best model, which was not the last; `loss` as results had it before there was `train_loss`.
FIGURES = {"test_accuracy": 0.98123, "test_loss": 0.0512, "val_loss": 0.2, "train_loss": 0.3, "loss": 0.1}
RESULT = {"metrics": FIGURES, "artifacts": ["curves.png"]}
RECORDED.append((120, "state", {"state": "succeeded", "result": RESULT}))


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
        "running    step 12/40  epoch 0/5  loss 2.2500  val_loss 0.2500  val_accuracy 0.9100  attempt 2  finish "
        "requested",
        "running    step 40/40  epoch 2/5  loss 2.2500  val_loss 0.2500  val_accuracy 0.9100  attempt 2  finish "
        "requested  3,210/s  ETA 0:00",
        "succeeded  step 40/40  epoch 2/5  val_loss 0.2000",
        "succeeded  test_accuracy 0.9812  test_loss 0.0512  train_loss 0.3000",
    ]


def test_several_jobs_are_told_apart_and_the_worst_outcome_counts(fake: FakeApi) -> None:
    error = {"type": "non_finite_loss", "message": "the loss became nan at step 7", "retryable": False}
    fake.jobs[OTHER_ID] = job_data(OTHER_ID, state="failed", error=error)
    fake.events[OTHER_ID] = [(1, "state", {"state": "failed"})]
    lines = watched_lines(fake, code=1)
    assert f"{OTHER_ID}  failed     non_finite_loss: the loss became nan at step 7" in lines
    assert sum(line.startswith(ID) for line in lines) == 9


def test_losing_the_api_is_an_outcome_of_its_own(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: Job, **options: Any) -> Iterator[Event]:
        yield Event(1, "state", None, {"state": "running"})
        raise Unavailable("gone for 300 s.")

    monkeypatch.setattr(Job, "events", lost)
    assert watched_lines(fake, OUTCOME_UNKNOWN)[-1] == "running    gone for 300 s. The job continues on the server."


def test_a_defect_in_listening_does_not_hang_the_watcher(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "events", lambda self, **options: 1 / 0)
    assert "ZeroDivisionError" in watched_lines(fake, OUTCOME_UNKNOWN)[-1]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_blocks_fit_every_width_at_every_moment(fake: FakeApi, width: int) -> None:
    job = jobs(fake)[0]
    job.data["name"] = "a rather long name of a job that somebody gave it, with more to come"
    watched = JobProgress.of(job)
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


# -- curves, logs, lost connections ----------------------------------------------------------------

TALKING: list[tuple[int, str, dict[str, Any]]] = [
    (1, "state", {"state": "running", "attempt": 1}),
    *((10 + n, "metric", {"name": "loss", "step": n, "epoch": 0, "value": 1 / (n + 1)}) for n in range(50)),
    *((100 + n, "log", {"level": "info", "message": f"line {n}\x1b[2J"}) for n in range(9)),
]


def drawn(watched: JobProgress, width: int = 100, logs: int = 3) -> list[str]:
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    out.print(block(watched, width, logs))
    return [line.rstrip() for line in out.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_block_shows_the_curve_and_the_last_log_lines(fake: FakeApi) -> None:
    watched = JobProgress.of(jobs(fake)[0])
    for seq, kind, data in TALKING:
        watched.apply(Event(seq, kind, "2027-01-31T02:00:00.000Z", data))
    lines = drawn(watched)
    assert any("loss █" in line and line.endswith("▁") for line in lines)
    assert [line.split()[-2:] for line in lines if "│" in line] == [
        ["line", f"{n}\N{REPLACEMENT CHARACTER}[2J"] for n in (6, 7, 8)
    ]
    assert not any("│" in line for line in drawn(watched, logs=0))


def test_a_long_curve_is_thinned_evenly() -> None:
    watched = JobProgress("a1b2")
    for step in range(10 * CURVE_POINTS):
        watched.apply(Event(step, "metric", None, {"name": "loss", "step": step, "epoch": 0, "value": float(step)}))
    curve = watched.curves["loss"]
    assert len(curve) <= CURVE_POINTS
    assert curve == sorted(curve)
    assert (curve[0], curve[-1]) == (0.0, 10.0 * CURVE_POINTS - 1)


def test_the_log_goes_to_a_pipe_when_asked_for(fake: FakeApi) -> None:
    fake.events[ID] = [*TALKING, (200, "state", {"state": "succeeded"})]
    quiet, talking = (Console(file=io.StringIO(), width=10_000) for _ in range(2))
    watch(jobs(fake), quiet)
    watch(jobs(fake), talking, logs=3)
    assert "line" not in quiet.file.getvalue()  # type: ignore[attr-defined]
    assert talking.file.getvalue().count("log        ") == 9  # type: ignore[attr-defined]


def test_a_lost_connection_is_said_once_and_forgotten_when_it_is_back(
    fake: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Job, *, on_drop: Any) -> Iterator[Event]:
        yield Event(1, "state", None, {"state": "running"})
        on_drop(OSError("reset"))
        on_drop(OSError("refused"))
        yield Event(2, "progress", None, {"step": 20, "total_steps": 40})
        yield Event(3, "state", None, {"state": "succeeded"})

    monkeypatch.setattr(Job, "events", broken)
    lines = watched_lines(fake)
    assert lines[:3] == [
        "running",
        "running    Connection lost; reconnecting. The job continues meanwhile.",
        "running    step 20/40",
    ]
    assert lines[-1].startswith("succeeded")
