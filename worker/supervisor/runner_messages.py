"""All that was heard of a runner: what goes into SQL next, what counts at the end, and what is evidence if it dies."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from math import isfinite
from time import monotonic
from typing import Any

from pydantic import ValidationError

from shared.events import current_context, emit
from shared.jobs.transitions import CheckpointRecord, LogRow, MetricRow, SampleRow
from shared.jobs.transitions.effects import storable
from shared.jobs.transitions.values import LAST_LINES, LONGEST
from shared.settings import Settings
from shared.storage.uploader import NoopUploader, Uploader
from worker.runners.messages import (
    MAX_FRAME_BYTES,
    ArtifactSaved,
    AskChampion,
    CheckpointSaved,
    Failed,
    Log,
    Metrics,
    Phase,
    Progress,
    Result,
    Started,
    Stopped,
    decode_from_runner,
)
from worker.runners.output_capture import LogRateLimiter
from worker.supervisor.batch import Batch
from worker.supervisor.outcomes import KillReason
from worker.supervisor.watchdog import STEPPING, Limits, Watchdog

#: Bytes read from the runner's socket at once.
_CHUNK = 262_144
#: Frames kept as evidence of an attempt.
LAST_FRAMES = 8

Objection = tuple[KillReason, str]


class RunnerMessages:
    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = monotonic,
        carrier: Uploader | None = None,
        needless: Callable[[list[CheckpointRecord]], set[str]] = lambda waiting: set(),
    ) -> None:
        """`carrier` takes the job's checkpoints to the storage; `needless`: those of them that need not go there."""
        self._clock = clock
        self.uploader = carrier or NoopUploader()
        self._buffer = b""
        #: Why the runner must be ended, if it must: the first reason.
        self.objection: Objection | None = None
        self._needless = needless
        # Apart, so that a flood on stdout does not drown what the job logs.
        self.log_budget = LogRateLimiter(settings.max_log_bytes // 2)
        self.print_budget = LogRateLimiter(settings.max_log_bytes // 2)
        limits = Limits(settings.stall_seconds, settings.stall_factor, settings.stall_floor_seconds)
        self.watchdog = Watchdog(limits, clock())
        self.batch = Batch()
        self.artifacts: dict[str, ArtifactSaved] = {}
        self.last: Result | Stopped | Failed | None = None
        self.champion_asked = False
        self.peak_device_memory_bytes: int | None = None
        self._progress: dict[str, Any] = {"step": 0}
        self._frames: deque[tuple[float, dict[str, Any]]] = deque(maxlen=LAST_FRAMES)
        self._lines: deque[str] = deque(maxlen=LAST_LINES)

    # -- frames -----------------------------------------------------------------------------------

    def read(self, sock: socket.socket) -> bool:
        """Take the frames that have come. Returns False when the runner sends no more."""
        try:
            data = sock.recv(_CHUNK)
        except BlockingIOError:
            return True
        except ConnectionError:
            data = b""
        *lines, rest = (self._buffer + data).split(b"\n")
        for line in lines:
            self._object(self.line(line))
        if len(rest) > MAX_FRAME_BYTES:
            rest = b""
            self._object((KillReason.PROTOCOL, f"the runner sent a frame longer than {MAX_FRAME_BYTES} bytes"))
        self._buffer = rest
        return bool(data)

    def _object(self, objection: Objection | None) -> None:
        self.objection = self.objection or objection

    def take_batch(self, samples: list[SampleRow]) -> Batch:
        """Return what was said since the last call, with what was used meanwhile."""
        batch, self.batch = self.batch, Batch()
        batch.samples = samples
        return batch

    def line(self, line: bytes) -> Objection | None:
        """A frame, as it came. Returns why the runner must be ended, if it must."""
        if self.last is not None or (self.objection and self.objection[0] is KillReason.PROTOCOL):
            return None
        try:
            frame = decode_from_runner(line)
        except ValidationError:
            return KillReason.PROTOCOL, f"the runner sent what is no frame: {line[:200]!r}"
        now = self._clock()
        self.watchdog.heard(now)
        self._frames.append((now, _brief(frame)))
        return self._take(frame, now)

    def _take(self, frame: Any, now: float) -> Objection | None:
        match frame:
            case Started():
                emit("runner.started", step=frame.resumed_step or 0, **current_context())
                self.batch.started = frame
                self._progress = {"step": frame.resumed_step or 0, "total_steps": frame.total_steps}
                self._enter("first_step", now)
            case Phase():
                emit("runner.entered", phase=frame.phase, **current_context())
                self._enter(frame.phase, now)
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
                self.champion_asked = True
            case Result() | Stopped() | Failed():
                self._take_last(frame)
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

    def _take_metrics(self, frame: Metrics) -> Objection | None:
        for point in frame.points:
            if not isfinite(point.value):
                return KillReason.NOT_FINITE, f"{point.name} became {point.value} at step {point.step}"
            self.batch.metrics.append(MetricRow(point.name, point.step, point.epoch, point.value))
        return None

    def _take_last(self, frame: Result | Stopped | Failed) -> None:
        self.last = frame
        self._device_memory(frame.peak_device_memory_bytes)
        if isinstance(frame, Failed) and frame.traceback:
            self.batch.logs.append(LogRow("error", frame.traceback))

    # -- on the way to the storage ------------------------------------------------------------------

    def _take_checkpoint(self, checkpoint: CheckpointRecord) -> None:
        """While the storage is away they gather on this host, but no more than are kept in the end."""
        self.uploader.send(checkpoint)
        if len(waiting := self.uploader.waiting()) > 1:
            needless = self._needless(waiting)
            for one in waiting:
                if one.id in needless:
                    self.uploader.forget(one)
        self.collect()

    def collect(self) -> None:
        """Checkpoints that the storage has may have their rows. One that it can never have is as if it had not been
        written."""
        self.batch.checkpoints += self.uploader.arrived()
        for checkpoint, why in self.uploader.refused():
            text = f"the checkpoint of step {checkpoint.step} could not be stored: {why}"
            self.batch.logs.append(LogRow("error", text))

    def _device_memory(self, found: int | None) -> None:
        if found is not None:
            self.peak_device_memory_bytes = max(found, self.peak_device_memory_bytes or 0)

    # -- log and output -----------------------------------------------------------------------------

    def log(self, level: str, message: str, budget: LogRateLimiter) -> None:
        self._lines.append(storable(f"{level}: {message[:LONGEST]}"))
        if budget.admits(message):
            self.tell_of_drops(budget)
            self.batch.logs.append(LogRow(level, message))

    def tell_of_drops(self, budget: LogRateLimiter) -> None:
        notice = budget.notice()
        if notice:
            self.batch.logs.append(LogRow("warning", notice))

    # -- evidence -----------------------------------------------------------------------------------

    def evidence(self) -> dict[str, Any]:
        """What it did and said last: for whoever wants to know why it ended as it did."""
        now = self._clock()
        return {
            "phase": self.watchdog.phase,
            "step": self.watchdog.step,
            "last_frames": [{"seconds_before_end": round(now - at, 3), **frame} for at, frame in self._frames],
            "log_tail": list(self._lines),
        }


def _brief(frame: Any) -> dict[str, Any]:
    """A frame as evidence: its short fields; of metrics the names and values only."""
    if isinstance(frame, Metrics):
        step = frame.points[-1].step if frame.points else None
        return {"type": "metrics", "step": step, "values": {p.name: repr(p.value) for p in frame.points[-6:]}}
    told: dict[str, Any] = {}
    for name, value in frame.model_dump(exclude_none=True, exclude={"traceback"}).items():
        if isinstance(value, (int, float, bool)):
            told[name] = value if isinstance(value, int) or isfinite(value) else repr(value)
        elif isinstance(value, str):
            told[name] = storable(value[:LONGEST])
    return told
