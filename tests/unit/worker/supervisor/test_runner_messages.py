"""Messages of a runner: the batch for the database, the watchdog's state and the evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.transitions import Claimed, Lease
from shared.jobs.transitions.values import LAST_LINES, LONGEST
from shared.settings import Settings
from shared.storage.uploader import Uploader
from worker.runners.messages import (
    CheckpointSaved,
    Failed,
    Log,
    MetricPoint,
    Metrics,
    Phase,
    Progress,
    Result,
    Started,
    encode,
)
from worker.supervisor.batch import Retention
from worker.supervisor.outcomes import KillReason
from worker.supervisor.runner_messages import LAST_FRAMES, RunnerMessages


class RecordingHandler:
    """Receives frames on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.messages = RunnerMessages(Settings(), clock=lambda: self.now)

    def handle(self, *frames: Any, seconds: float = 1.0) -> Any:
        violation = None
        for frame in frames:
            self.now += seconds
            violation = self.messages.line(encode(frame))
        return violation


def step(number: int, **fields: Any) -> Progress:
    return Progress(step=number, total_steps=10, at=0.0, **fields)


def test_phases_and_steps_reach_the_watchdog_and_the_progress() -> None:
    handler = RecordingHandler()
    assert handler.messages.watchdog.phase == "load"
    handler.handle(Started(pid=1, device="cpu", resumed_from="c", resumed_step=4, total_steps=10))
    assert handler.messages.batch.progress == {"step": 4, "total_steps": 10, "phase": "first_step"}
    handler.handle(step(5))
    assert (handler.messages.watchdog.phase, handler.messages.watchdog.step) == ("train", 5)
    handler.handle(Phase(phase="validate"))
    assert handler.messages.batch.progress is not None
    assert (handler.messages.batch.progress["phase"], handler.messages.batch.progress["step"]) == ("validate", 5)
    handler.handle(step(5, phase="validate"))
    assert handler.messages.watchdog.phase == "validate", "its progress for people is no step"


@pytest.mark.parametrize(
    ("line", "kill_reason"),
    [
        (b"no frame", KillReason.PROTOCOL),
        (
            encode(Metrics(points=[MetricPoint(name="loss", step=1, epoch=0, value=float("nan"))])),
            KillReason.NOT_FINITE,
        ),
    ],
)
def test_what_ends_a_runner(line: bytes, kill_reason: KillReason) -> None:
    violation = RecordingHandler().messages.line(line)
    assert violation is not None
    assert violation[0] is kill_reason


def test_nothing_counts_after_the_last_word() -> None:
    handler = RecordingHandler()
    handler.handle(Result(metrics={}))
    assert handler.handle(step(1)) is None
    assert handler.messages.line(b"no frame") is None
    assert handler.messages.batch.progress is None


def test_the_peak_of_the_device_is_the_highest_received() -> None:
    handler = RecordingHandler()
    handler.handle(step(1, peak_device_memory_bytes=5), step(2, peak_device_memory_bytes=9), step(3))
    handler.handle(Failed(error_type="x", message="m", retryable=True, peak_device_memory_bytes=7))
    assert handler.messages.peak_device_memory_bytes == 9


def test_the_evidence_is_short_storable_and_says_when() -> None:
    handler = RecordingHandler()
    handler.handle(*(step(number) for number in range(1, 50)))
    handler.handle(Metrics(points=[MetricPoint(name="loss", step=49, epoch=3, value=0.25)]))
    handler.handle(Log(message="x" * 10_000 + "\0"))
    for number in range(100):
        handler.messages.log("stderr", f"line {number} \0 \ud800", handler.messages.print_budget)
    handler.now += 2.5
    found = handler.messages.evidence()
    assert (found["phase"], found["step"]) == ("train", 49)
    assert [frame["type"] for frame in found["last_frames"]] == ["progress"] * (LAST_FRAMES - 2) + ["metrics", "log"]
    assert found["last_frames"][-2]["values"] == {"loss": "0.25"}
    assert found["last_frames"][-1]["seconds_before_end"] == 2.5
    assert len(found["log_tail"]) == LAST_LINES
    assert found["log_tail"][-1].startswith("stderr: line 99")
    text = json.dumps(found, ensure_ascii=False)
    assert len(text.encode()) < (LAST_FRAMES + LAST_LINES) * (LONGEST + 200)
    assert "\0" not in text


class BlockedUploader(Uploader):
    """An uploader whose storage is down."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoints: list[CheckpointRecord] = []

    def send(self, checkpoint: CheckpointRecord) -> None:
        self.checkpoints.append(checkpoint)

    def waiting(self) -> list[CheckpointRecord]:
        return list(self.checkpoints)

    def forget(self, checkpoint: CheckpointRecord) -> None:
        self.checkpoints.remove(checkpoint)


def test_no_more_checkpoints_wait_for_the_storage_than_are_kept() -> None:
    uploader = BlockedUploader()
    claimed = Claimed(Lease("job", 1, "w", 30.0), "train", {"checkpoint": {"keep_last": 2}}, {}, [], None, "me")
    messages = RunnerMessages(Settings(), uploader=uploader, superseded=Retention(claimed, Path()).superseded_in_queue)
    for step in range(1, 8):
        row = {"id": f"c{step}", "path": f"checkpoints/{step}-x", "step": step, "epoch": 0, "is_best": step == 3}
        messages.line(encode(CheckpointSaved(**row, sha256="0", size_bytes=1)))
    assert [checkpoint.step for checkpoint in uploader.checkpoints] == [3, 6, 7]
    assert messages.batch.checkpoints == []
