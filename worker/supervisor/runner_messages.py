"""Messages of a runner: the next batch for the database, the final result, and evidence in case it dies."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable, Iterable
from math import isfinite
from time import monotonic
from typing import Any

from pydantic import ValidationError

from shared.events import current_context, emit
from shared.jobs.states import FINISHING, WRITING
from shared.jobs.transitions import CheckpointRecord, LogRow, MetricRow, SampleRow
from shared.jobs.transitions.effects import storable
from shared.jobs.transitions.values import LAST_LINES, LONGEST
from shared.settings import Settings
from shared.storage.uploader import Uploader
from worker.runners.messages import (
    MAX_FRAME_BYTES,
    ArtifactSaved,
    AskChampion,
    CheckpointSaved,
    Failed,
    Finishing,
    Log,
    Metrics,
    Phase,
    Progress,
    ProposeEngine,
    Result,
    Started,
    Stopped,
    decode_from_runner,
)
from worker.runners.output_capture import LogRateLimiter
from worker.runners.redaction import hide
from worker.supervisor.batch import Batch
from worker.supervisor.outcomes import KillReason
from worker.supervisor.watchdog import STEPPING, Limits, Watchdog

#: Most bytes per read of the runner's socket.
_CHUNK = 262_144
#: Frames kept as evidence.
LAST_FRAMES = 8

#: Why the runner must be killed, with the detail.
Violation = tuple[KillReason, str]


class RunnerMessages:
    """Receives the frames and output of one runner."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = monotonic,
        uploader: Uploader | None = None,
        superseded: Callable[[list[CheckpointRecord]], set[str]] = lambda waiting: set(),
        secrets: Iterable[str] = (),
        on_writing: Callable[[], None] = lambda: None,
    ) -> None:
        """Receive messages.

        `superseded` returns the ids of waiting checkpoints that need no upload; `secrets` are values that are hidden in
        whatever the runner writes; `on_writing` is called when the runner begins to write its result.
        """
        self._on_writing = on_writing
        self._secrets = tuple(secrets)
        self._clock = clock
        self.uploader = uploader or Uploader()
        self._buffer = b""
        #: The first reason to kill the runner.
        self.violation: Violation | None = None
        self._superseded = superseded
        # Separate limits, so that a flood on stdout does not displace the job's log.
        self.log_budget = LogRateLimiter(settings.max_log_bytes // 2)
        self.print_budget = LogRateLimiter(settings.max_log_bytes // 2)
        limits = Limits(settings.stall_seconds, settings.stall_factor, settings.stall_floor_seconds)
        self.watchdog = Watchdog(limits, clock())
        self.batch = Batch()
        self.artifacts: dict[str, ArtifactSaved] = {}
        self.last: Result | Stopped | Failed | Finishing | None = None
        self.champion_requested = False
        self.proposed_engine: str | None = None
        #: Why a checkpoint could not be stored.
        self.unstored: str | None = None
        self.peak_device_memory_bytes: int | None = None
        self._progress: dict[str, Any] = {"step": 0}
        self._frames: deque[tuple[float, dict[str, Any]]] = deque(maxlen=LAST_FRAMES)
        self._lines: deque[str] = deque(maxlen=LAST_LINES)

    def expect_finisher(self) -> None:
        """Expect the frames of the runner that finishes the job."""
        self._buffer, self.last = b"", None

    # -- frames -----------------------------------------------------------------------------------

    def read(self, sock: socket.socket) -> bool:
        """Read the frames that have arrived. Return False at the end of the stream."""
        try:
            data = sock.recv(_CHUNK)
        except BlockingIOError:
            return True
        except ConnectionError:
            data = b""
        *lines, rest = (self._buffer + data).split(b"\n")
        for line in lines:
            self._add_violation(self.line(line))
        if len(rest) > MAX_FRAME_BYTES:
            rest = b""
            self._add_violation((KillReason.PROTOCOL, f"the runner sent a frame longer than {MAX_FRAME_BYTES} bytes"))
        self._buffer = rest
        return bool(data)

    def _add_violation(self, violation: Violation | None) -> None:
        self.violation = self.violation or violation

    def take_batch(self, samples: list[SampleRow]) -> Batch:
        """Return the messages since the last call, with the resource samples."""
        batch, self.batch = self.batch, Batch()
        batch.samples = samples
        return batch

    def line(self, line: bytes) -> Violation | None:
        """Process an encoded frame. Return the reason to kill the runner, if any."""
        if self.last is not None or (self.violation and self.violation[0] is KillReason.PROTOCOL):
            return None
        try:
            frame = decode_from_runner(self._hidden_in_frame(line))
        except ValidationError:
            return KillReason.PROTOCOL, f"the runner sent an invalid frame: {self._hidden_in_frame(line)[:200]!r}"
        now = self._clock()
        self.watchdog.received(now)
        self._frames.append((now, _brief(frame)))
        return self._take(frame, now)

    def hidden(self, text: str) -> str:
        """Return the text with the job's secrets hidden."""
        return hide(text, self._secrets)

    def hidden_bytes(self, line: bytes) -> bytes:
        """Return a line of output with the job's secrets hidden."""
        return self.hidden(line.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def _hidden_in_frame(self, line: bytes) -> bytes:
        """Return the frame with the job's secrets hidden, as JSON writes them."""
        if not self._secrets:
            return line
        written = (json.dumps(value, ensure_ascii=False)[1:-1] for value in self._secrets)
        return hide(line.decode("utf-8", "surrogateescape"), written).encode("utf-8", "surrogateescape")

    def _take(self, frame: Any, now: float) -> Violation | None:
        match frame:
            case Started():
                emit("runner.started", step=frame.resumed_step or 0, **current_context())
                self.batch.started = frame
                self._progress = {"step": frame.resumed_step or 0, "total_steps": frame.total_steps}
                self._enter("first_step", now)
            case Phase():
                emit("runner.entered", phase=frame.phase, **current_context())
                self._enter(frame.phase, now)
                if frame.phase == WRITING:
                    self._on_writing()
            case Progress():
                self._take_progress(frame, now)
            case Metrics():
                return self._take_metrics(frame)
            case CheckpointSaved():
                self._take_checkpoint(frame)
            case ArtifactSaved():
                self.artifacts[frame.path] = frame
            case Log():
                self.log(frame.level, frame.message, self.log_budget)
            case AskChampion():
                self.champion_requested = True
            case ProposeEngine():
                self.proposed_engine = frame.engine
            case Result() | Stopped() | Failed() | Finishing():
                self._take_last(frame, now)
        return None

    def _enter(self, phase: str, now: float) -> None:
        self.watchdog.entered(phase, now)
        self._progress = {**self._progress, "phase": phase}
        self.batch.progress = self._progress

    def _take_progress(self, frame: Progress, now: float) -> None:
        if frame.phase in STEPPING:
            self.watchdog.stepped(frame.phase, frame.step, now)
        self._device_memory(frame.peak_device_memory_bytes)
        self._progress = frame.model_dump(exclude={"type", "peak_device_memory_bytes"}, exclude_none=True)
        self.batch.progress = self._progress

    def _take_metrics(self, frame: Metrics) -> Violation | None:
        for point in frame.points:
            if not isfinite(point.value):
                return KillReason.NOT_FINITE, f"{point.name} became {point.value} at step {point.step}"
            self.batch.metrics.append(MetricRow(point.name, point.step, point.epoch, point.value))
        return None

    def _take_last(self, frame: Result | Stopped | Failed | Finishing, now: float) -> None:
        self.last = frame
        if isinstance(frame, Finishing):
            self._enter(FINISHING, now)
        self._device_memory(frame.peak_device_memory_bytes)
        if isinstance(frame, Failed) and frame.traceback:
            self.batch.logs.append(LogRow("error", frame.traceback))

    # -- uploads ------------------------------------------------------------------------------------

    def _take_checkpoint(self, checkpoint: CheckpointRecord) -> None:
        """Queue the upload. While the storage is down, checkpoints that retention would delete leave the queue."""
        self.uploader.send(checkpoint)
        if len(waiting := self.uploader.waiting()) > 1:
            superseded = self._superseded(waiting)
            for one in waiting:
                if one.id in superseded:
                    self.uploader.forget(one)
        self.collect()

    def collect(self) -> None:
        """Add uploaded checkpoints to the batch. One that cannot be stored is only logged."""
        self.batch.checkpoints += self.uploader.arrived()
        for checkpoint, why in self.uploader.refused():
            self.unstored = f"the checkpoint of step {checkpoint.step} could not be stored: {why}"
            self.batch.logs.append(LogRow("error", self.unstored))

    def _device_memory(self, found: int | None) -> None:
        if found is not None:
            self.peak_device_memory_bytes = max(found, self.peak_device_memory_bytes or 0)

    # -- log and output -----------------------------------------------------------------------------

    def log(self, level: str, message: str, budget: LogRateLimiter) -> None:
        """Add a log line if the rate limit admits it."""
        message = self.hidden(message)
        self._lines.append(storable(f"{level}: {message[:LONGEST]}"))
        if budget.admits(message):
            self.log_drops(budget)
            self.batch.logs.append(LogRow(level, message))

    def log_drops(self, budget: LogRateLimiter) -> None:
        """Add a log line about lines dropped since the last one."""
        notice = budget.notice()
        if notice:
            self.batch.logs.append(LogRow("warning", notice))

    # -- evidence -----------------------------------------------------------------------------------

    def evidence(self) -> dict[str, Any]:
        """Return the last phase, step, frames and log lines, stored to explain how the runner ended."""
        now = self._clock()
        return {
            "phase": self.watchdog.phase,
            "step": self.watchdog.step,
            "last_frames": [{"seconds_before_end": round(now - at, 3), **frame} for at, frame in self._frames],
            "log_tail": list(self._lines),
        }


def _brief(frame: Any) -> dict[str, Any]:
    """Return the short fields of a frame as evidence; of metrics the names and values only."""
    if isinstance(frame, Metrics):
        step = frame.points[-1].step if frame.points else None
        return {"type": "metrics", "step": step, "values": {p.name: repr(p.value) for p in frame.points[-6:]}}
    fields: dict[str, Any] = {}
    for name, value in frame.model_dump(exclude_none=True, exclude={"traceback"}).items():
        if isinstance(value, (int, float, bool)):
            fields[name] = value if isinstance(value, int) or isfinite(value) else repr(value)
        elif isinstance(value, str):
            fields[name] = storable(value[:LONGEST])
    return fields
