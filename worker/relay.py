"""Between a live runner and SQL: reads its frames and output, hands them on in batches, obeys clocks and stop requests.

An event loop that never waits for anything but events: SQL is the scribe's, processes are the forkserver's.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
from collections.abc import Callable
from functools import partial
from math import isfinite
from time import monotonic
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from shared.db.engine import on_commit
from shared.failpoints import failpoint
from shared.jobs.states import StopRequest
from shared.jobs.transitions import CheckpointRecord, LogRow, MetricRow, Standing
from shared.settings import Settings
from worker.batch import Batch
from worker.capture import LinePipe, LogBudget
from worker.forkclient import Exit
from worker.outcomes import Cut, Ended
from worker.protocol import (
    MAX_FRAME_BYTES,
    ArtifactSaved,
    AskChampion,
    Champion,
    CheckpointSaved,
    Failed,
    Log,
    Metrics,
    Progress,
    Result,
    Started,
    Stop,
    Stopped,
    decode_from_runner,
    encode,
)
from worker.scribe import Scribe
from worker.spare import Runner
from worker.wake import Wake

_CHUNK = 262_144
#: A later request replaces an earlier one only if it is stronger: nothing takes back a cancel.
_STRENGTH = (None, StopRequest.DRAIN, StopRequest.PREEMPT, StopRequest.PAUSE, StopRequest.FINISH, StopRequest.CANCEL)


class Relay:
    def __init__(
        self,
        runner: Runner,
        scribe: Scribe,
        settings: Settings,
        wake: Wake,
        wanted: Callable[[], StopRequest | None],
        write: Callable[[Connection, Batch], Standing],
        champion: Callable[[Connection], Champion],
    ) -> None:
        """`wanted`: what this worker itself asks of the attempt (drain); `write`: puts a batch into SQL; `champion`: reads
        there whom a new model is compared with."""
        self._runner, self._scribe, self._settings, self._wake = runner, scribe, settings, wake
        self._wanted, self._write, self._champion = wanted, write, champion
        self._asked_champion = False
        self._champion_found: Champion | None = None
        self._selector = selectors.DefaultSelector()
        self._buffer = bytearray()
        # Apart, so that a flood on stdout does not drown what the job logs.
        self._log_budget = LogBudget(settings.max_log_bytes // 2)
        self._print_budget = LogBudget(settings.max_log_bytes // 2)
        self._flushed_at = 0.0
        self._heard_at = monotonic()
        self._frozen = False
        self._killed = False
        self._kill_at: float | None = None
        self._asked: StopRequest | None = None
        self._cut: Cut | None = None
        self._detail = ""
        self._last: Result | Stopped | Failed | None = None
        self.batch = Batch()
        self.artifacts: dict[str, ArtifactSaved] = {}

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> Ended:
        """Until the runner is gone and all it said is read. What is not yet in SQL stays in `batch`."""
        self._register()
        while self._runner.handle.exit is None:
            self._obey()
            self._answer_if_asked()
            self._flush_if_due()
            for key, _ in self._selector.select(self._patience()):
                key.data()
        self._read_the_rest()
        return self._ended(self._runner.handle.exit)

    def _register(self) -> None:
        self._runner.sock.setblocking(False)
        for source, heard in (
            (self._runner.sock, self._on_frames),
            (self._runner.out, lambda: self._on_output(self._runner.out, "stdout")),
            (self._runner.err, lambda: self._on_output(self._runner.err, "stderr")),
            (self._wake, self._wake.clear),
        ):
            self._selector.register(source, selectors.EVENT_READ, heard)

    def _patience(self) -> float:
        """Seconds until a clock must be looked at."""
        now = monotonic()
        dues = [self._stalled_at(), self._frozen_at(), self._kill_at, self._scribe.renewal.deadline()]
        if self.batch and self._scribe.idle:
            dues.append(self._flush_at())
        soonest = min((due for due in dues if due is not None and due > now), default=now + 60.0)
        return max(0.0, min(soonest - now, 60.0))

    # -- what the runner says -----------------------------------------------------------------------

    def _on_frames(self) -> None:
        try:
            data = self._runner.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._selector.unregister(self._runner.sock)
            return
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            self._on_line(bytes(line))
        if len(self._buffer) > MAX_FRAME_BYTES:
            self._buffer.clear()
            self._end(Cut.PROTOCOL, f"the runner sent a frame longer than {MAX_FRAME_BYTES} bytes")

    def _on_line(self, line: bytes) -> None:
        if self._cut is Cut.PROTOCOL or self._last is not None:
            return
        try:
            frame = decode_from_runner(line)
        except ValidationError:
            self._end(Cut.PROTOCOL, f"the runner sent what is no frame: {line[:200]!r}")
            return
        self._heard_at = monotonic()
        self._take(frame)

    def _take(self, frame: Any) -> None:
        match frame:
            case Started():
                self.batch.started = frame
            case Progress():
                self.batch.progress = frame.model_dump(exclude={"type"}, exclude_none=True)
            case Metrics():
                self._take_metrics(frame)
            case CheckpointSaved():
                self.batch.checkpoints.append(CheckpointRecord(**frame.model_dump(exclude={"type"})))
            case ArtifactSaved():
                self.artifacts[frame.path] = frame
            case Log():
                self._log(frame.level, frame.message, self._log_budget)
            case AskChampion():
                self._asked_champion = True
            case Result() | Stopped() | Failed():
                self._last = frame
                if isinstance(frame, Failed) and frame.traceback:
                    self.batch.logs.append(LogRow("error", frame.traceback))

    def _take_metrics(self, frame: Metrics) -> None:
        for point in frame.points:
            if not isfinite(point.value):
                self._end(Cut.NOT_FINITE, f"{point.name} became {point.value} at step {point.step}")
                return
            self.batch.metrics.append(MetricRow(point.name, point.step, point.epoch, point.value))

    def _on_output(self, pipe: LinePipe, level: str) -> None:
        if self._print_budget.spent():
            self._print_budget.drop(*pipe.skip())
        else:
            for line in pipe.read():
                if line.strip():
                    self._log(level, line, self._print_budget)
        if pipe.ended:
            self._selector.unregister(pipe)

    def _log(self, level: str, message: str, budget: LogBudget) -> None:
        if budget.admits(message):
            self._tell_of_drops(budget)
            self.batch.logs.append(LogRow(level, message))

    def _tell_of_drops(self, budget: LogBudget) -> None:
        notice = budget.notice()
        if notice:
            self.batch.logs.append(LogRow("warning", notice))

    def _read_the_rest(self) -> None:
        """The runner and its family are dead, so every pipe ends; a last word may still lie in the socket."""
        for source, heard in (
            (self._runner.sock, self._on_frames),
            (self._runner.out, lambda: self._on_output(self._runner.out, "stdout")),
            (self._runner.err, lambda: self._on_output(self._runner.err, "stderr")),
        ):
            with selectors.DefaultSelector() as ready:
                ready.register(source, selectors.EVENT_READ)
                while source in self._registered() and ready.select(0):
                    heard()
        self._tell_of_drops(self._log_budget)
        self._tell_of_drops(self._print_budget)
        self._selector.close()

    def _registered(self) -> set[Any]:
        return {key.fileobj for key in self._selector.get_map().values()}

    # -- what clocks and people want ------------------------------------------------------------------

    def _obey(self) -> None:
        now = monotonic()
        renewal, scribe = self._scribe.renewal, self._scribe
        if scribe.lease_lost or scribe.broken:
            self._kill()
            return
        standing = renewal.standing
        self._ask(max(standing.stop_requested if standing else None, self._wanted(), key=_STRENGTH.index))
        deadline = renewal.deadline()
        if deadline is not None and now >= deadline:
            self._time_out(now)
        if now >= self._stalled_at():
            self._end(Cut.STALLED, f"no word from the runner for {self._settings.stall_seconds:.0f} s")
        if self._kill_at is not None and now >= self._kill_at:
            self._end(self._cut or Cut.GRACE, self._detail or "asked to stop, it did not in time")
        self._freeze_or_thaw(now)

    def _ask(self, request: StopRequest | None) -> None:
        """Send a Stop once, and again only if it is stronger."""
        if request is None or _STRENGTH.index(request) <= _STRENGTH.index(self._asked):
            return
        self._asked = request
        failpoint(f"{request.value}.seen")
        self._tell(Stop(reason=request.value))
        grace = self._grace(request)
        if grace is not None:
            due = monotonic() + grace
            self._kill_at = due if self._kill_at is None else min(self._kill_at, due)
        else:
            self._kill_at = None

    def _grace(self, request: StopRequest) -> float | None:
        """`finish` evaluates and writes artifacts: that takes as long as it takes. The rest write a checkpoint at most."""
        if request is StopRequest.FINISH:
            return None
        return self._settings.stop_grace_seconds if request is StopRequest.CANCEL else self._settings.drain_seconds

    def _time_out(self, now: float) -> None:
        if self._cut is None and self._last is None:
            self._cut, self._detail = Cut.TIMEOUT, "the job ran longer than timeout_seconds allows"
            self._tell(Stop(reason="cancel"))
            self._kill_at = now + self._settings.stop_grace_seconds

    def _tell(self, frame: Stop | Champion) -> None:
        with contextlib.suppress(OSError):  # it is gone, or so stuck that only the kill will reach it
            self._runner.sock.send(encode(frame))

    def _end(self, cut: Cut, detail: str) -> None:
        if self._cut is None:
            self._cut, self._detail = cut, detail
        self._kill()

    def _kill(self) -> None:
        if not self._killed:
            self._killed = True
            self._runner.handle.signal(signal.SIGKILL)

    def _freeze_or_thaw(self, now: float) -> None:
        """A runner must not train on while another worker may already have its job."""
        overdue = now >= self._frozen_at_raw()
        if overdue != self._frozen and not self._killed:
            self._frozen = overdue
            self._runner.handle.signal(signal.SIGSTOP if overdue else signal.SIGCONT)
            self._heard_at = now

    def _frozen_at_raw(self) -> float:
        return self._scribe.renewal.at + self._settings.lease_seconds * 2 / 3

    def _frozen_at(self) -> float | None:
        return None if self._frozen else self._frozen_at_raw()

    def _stalled_at(self) -> float:
        return float("inf") if self._frozen or self._killed else self._heard_at + self._settings.stall_seconds

    # -- into SQL -------------------------------------------------------------------------------------

    def _flush_at(self) -> float:
        if self.batch.checkpoints or self.batch.started:
            return 0.0
        return self._flushed_at + self._settings.relay_seconds

    def _flush_if_due(self) -> None:
        now = monotonic()
        if self.batch and self._scribe.idle and now >= self._flush_at():
            batch, self.batch = self.batch, Batch()
            self._flushed_at = now
            self._scribe.put(lambda conn: self._write(conn, batch))

    def _answer_if_asked(self) -> None:
        """Whom the new model is compared with: read by the scribe, told when that is done (its wake-up ends our wait)."""
        if self._champion_found is not None:
            found, self._champion_found = self._champion_found, None
            self._tell(found)
        if self._asked_champion and self._scribe.idle:
            self._asked_champion = False
            self._scribe.put(self._find_champion)

    def _find_champion(self, conn: Connection) -> Standing:
        standing = self._write(conn, Batch())
        on_commit(conn, partial(setattr, self, "_champion_found", self._champion(conn)))
        return standing

    def _ended(self, exit: Exit) -> Ended:
        return Ended(exit, self._last, self._asked, self._cut, self._detail, tail=self._runner.err.tail())
