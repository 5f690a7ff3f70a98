"""What is heard of a runner: what goes on into SQL, what the watchdog makes of it, and the evidence that is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.job_files.checkpoint_record import CheckpointRecord
from shared.jobs.transitions import Claimed, Lease
from shared.jobs.transitions.values import LAST_LINES, LONGEST
from shared.settings import Settings
from shared.storage.uploader import NoopUploader
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
    """Hears frames in a test's own time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.heard = RunnerMessages(Settings(), clock=lambda: self.now)

    def hear(self, *frames: Any, seconds: float = 1.0) -> Any:
        objection = None
        for frame in frames:
            self.now += seconds
            objection = self.heard.line(encode(frame))
        return objection


def step(number: int, **fields: Any) -> Progress:
    return Progress(step=number, total_steps=10, at=0.0, **fields)


def test_phases_and_steps_reach_the_watchdog_and_the_progress() -> None:
    ear = RecordingHandler()
    assert ear.heard.watchdog.phase == "load"
    ear.hear(Started(pid=1, device="cpu", resumed_from="c", resumed_step=4, total_steps=10))
    assert ear.heard.batch.progress == {"step": 4, "total_steps": 10, "phase": "first_step"}
    ear.hear(step(5))
    assert (ear.heard.watchdog.phase, ear.heard.watchdog.step) == ("train", 5)
    ear.hear(Phase(phase="validate"))
    assert ear.heard.batch.progress is not None
    assert (ear.heard.batch.progress["phase"], ear.heard.batch.progress["step"]) == ("validate", 5)
    ear.hear(step(5, phase="validate"))
    assert ear.heard.watchdog.phase == "validate", "its progress for people is no step"


@pytest.mark.parametrize(
    ("line", "cut"),
    [
        (b"no frame", KillReason.PROTOCOL),
        (
            encode(Metrics(points=[MetricPoint(name="loss", step=1, epoch=0, value=float("nan"))])),
            KillReason.NOT_FINITE,
        ),
    ],
)
def test_what_ends_a_runner(line: bytes, cut: KillReason) -> None:
    objection = RecordingHandler().heard.line(line)
    assert objection is not None
    assert objection[0] is cut


def test_nothing_counts_after_the_last_word() -> None:
    ear = RecordingHandler()
    ear.hear(Result(metrics={}))
    assert ear.hear(step(1)) is None
    assert ear.heard.line(b"no frame") is None
    assert ear.heard.batch.progress is None


def test_the_peak_of_the_device_is_the_highest_heard() -> None:
    ear = RecordingHandler()
    ear.hear(step(1, peak_device_memory_bytes=5), step(2, peak_device_memory_bytes=9), step(3))
    ear.hear(Failed(error_type="x", message="m", retryable=True, peak_device_memory_bytes=7))
    assert ear.heard.peak_device_memory_bytes == 9


def test_the_evidence_is_short_storable_and_says_when() -> None:
    ear = RecordingHandler()
    ear.hear(*(step(number) for number in range(1, 50)))
    ear.hear(Metrics(points=[MetricPoint(name="loss", step=49, epoch=3, value=0.25)]))
    ear.hear(Log(message="x" * 10_000 + "\0"))
    for number in range(100):
        ear.heard.log("stderr", f"line {number} \0 \ud800", ear.heard.print_budget)
    ear.now += 2.5
    found = ear.heard.evidence()
    assert (found["phase"], found["step"]) == ("train", 49)
    assert [frame["type"] for frame in found["last_frames"]] == ["progress"] * (LAST_FRAMES - 2) + ["metrics", "log"]
    assert found["last_frames"][-2]["values"] == {"loss": "0.25"}
    assert found["last_frames"][-1]["seconds_before_end"] == 2.5
    assert len(found["log_tail"]) == LAST_LINES
    assert found["log_tail"][-1].startswith("stderr: line 99")
    text = json.dumps(found, ensure_ascii=False)
    assert len(text.encode()) < (LAST_FRAMES + LAST_LINES) * (LONGEST + 200)
    assert "\0" not in text


class BlockedUploader(NoopUploader):
    """A carrier whose storage is away."""

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
    carrier = BlockedUploader()
    claimed = Claimed(Lease("job", 1, "w", 30.0), "train", {"checkpoint": {"keep_last": 2}}, {}, [], None, "me")
    heard = RunnerMessages(Settings(), carrier=carrier, needless=Retention(claimed, Path()).needless)
    for step in range(1, 8):
        heard.line(encode(CheckpointSaved(id=f"c{step}", path=f"checkpoints/{step}-x", step=step, epoch=0, sha256="0", size_bytes=1, is_best=step == 3)))  # fmt: skip
    assert [checkpoint.step for checkpoint in carrier.checkpoints] == [3, 6, 7]
    assert heard.batch.checkpoints == []
