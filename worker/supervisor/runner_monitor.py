"""Monitors a live runner: reads its frames and output, submits batches, applies timeouts and stop requests.

An event loop that never blocks: the attempt writer does the SQL, the forkserver starts and reaps processes.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from shared.db.engine import on_commit
from shared.failpoints import failpoint
from shared.jobs.states import StopRequest, strongest
from shared.jobs.transitions import AttemptStatus, SampleRow
from shared.settings import Settings
from worker.runners.forkserver_client import Exit
from worker.runners.messages import Agreed, Champion, Stop, encode
from worker.runners.output_capture import LineReader
from worker.runners.runner_pool import Runner
from worker.supervisor.attempt_writer import AttemptWriter
from worker.supervisor.batch import Batch, BatchWriter
from worker.supervisor.outcomes import KillReason, RunnerExit
from worker.supervisor.runner_messages import RunnerMessages
from worker.supervisor.self_pipe import SelfPipe
from worker.supervisor.watchdog import LOOK_SECONDS

#: Seconds from SIGABRT to SIGKILL of a stalled runner, in which it prints its stack.
ABORT_GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class RunContext:
    """The parts of an attempt that its runner's monitor uses."""

    runner: Runner
    messages: RunnerMessages
    writer: AttemptWriter
    settings: Settings
    wake: SelfPipe
    #: Return the stop requests of this worker and of the database.
    requests: Callable[[], set[StopRequest | None]]
    batches: BatchWriter
    #: Read the version that a new model is compared with.
    champion: Callable[[Connection], Champion]
    #: Fetch the champion's model to this host, then call the function with it; returns at once.
    fetch_champion: Callable[[Champion, Callable[[Champion], None]], None]
    #: Return the engine that the shards of the job compute with, when this one proposes an engine.
    agree: Callable[[Connection, str], str]
    #: Return the resource samples since the last call.
    samples: Callable[[], list[SampleRow]]
    #: Return the seconds that a draining worker has left, or None if it does not drain.
    time_left: Callable[[], float | None]
    #: Return whether another attempt of this worker is finishing, whose model may become the champion.
    waits_for_champion: Callable[[], bool]


class RunnerMonitor:
    """The event loop of one runner."""

    def __init__(self, context: RunContext) -> None:
        self._context, self._settings = context, context.settings
        self._runner, self._writer, self.messages = context.runner, context.writer, context.messages
        self._champion_named: Champion | None = None
        self._champion_found: Champion | None = None
        self._engine_agreed: str | None = None
        self._selector = selectors.DefaultSelector()
        self._flushed_at = 0.0
        self._suspended = False
        self._killed = False
        self._kill_at: float | None = None
        self._stop_sent: StopRequest | None = None
        self._kill_reason: KillReason | None = None
        self._detail = ""

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> RunnerExit:
        """Run until the runner has ended and its messages are read; unwritten ones stay in `messages.batch`."""
        self._register()
        while self._runner.handle.exit is None:
            self._apply_stop_requests()
            self._answer_champion_request()
            self._answer_proposal()
            self.messages.collect()
            self._flush_if_due()
            for key, _ in self._selector.select(self._select_timeout()):
                key.data()
        self._read_remaining()
        return self._runner_exit(self._runner.handle.exit)

    def _register(self) -> None:
        self._runner.sock.setblocking(False)
        self._runner.out.hidden = self._runner.err.hidden = self.messages.hidden_bytes
        for source, handler in (*self._sources(), (self._context.wake, self._context.wake.clear)):
            self._selector.register(source, selectors.EVENT_READ, handler)

    def _sources(self) -> tuple[tuple[Any, Callable[[], None]], ...]:
        """Return the runner's socket and pipes, each with the function that reads it."""
        return (
            (self._runner.sock, self._on_frames),
            (self._runner.out, lambda: self._on_output(self._runner.out, "stdout")),
            (self._runner.err, lambda: self._on_output(self._runner.err, "stderr")),
        )

    def _select_timeout(self) -> float:
        """Return the seconds until the next timeout or poll."""
        now = monotonic()
        dues = [self._next_suspend(), self._kill_at, self._writer.renewal.deadline()]
        if self.messages.batch and self._writer.idle:
            dues.append(self._flush_at())
        soonest = min((due for due in dues if due is not None and due > now), default=now + LOOK_SECONDS)
        return max(0.0, min(soonest, now + LOOK_SECONDS, max(now, self._stalled_at())) - now)

    # -- messages and output ------------------------------------------------------------------------

    def _on_frames(self) -> None:
        if not self.messages.read(self._runner.sock):
            self._selector.unregister(self._runner.sock)
        if self.messages.violation is not None:
            self._kill_because(*self.messages.violation)

    def _on_output(self, pipe: LineReader, level: str) -> None:
        budget = self.messages.print_budget
        if budget.spent():
            budget.drop(*pipe.skip())
        else:
            for line in pipe.read():
                if line.strip():
                    self.messages.log(level, line, budget)
        if pipe.ended:
            self._selector.unregister(pipe)

    def _read_remaining(self) -> None:
        """Read what is left in socket and pipes; the runner and its descendants are dead, so each of them ends."""
        for source, handler in self._sources():
            with selectors.DefaultSelector() as ready:
                ready.register(source, selectors.EVENT_READ)
                while source in self._registered() and ready.select(0):
                    handler()
        self.messages.log_drops(self.messages.log_budget)
        self.messages.log_drops(self.messages.print_budget)
        self._selector.close()

    def _registered(self) -> set[Any]:
        return {key.fileobj for key in self._selector.get_map().values()}

    # -- timeouts and stop requests -------------------------------------------------------------------

    def _apply_stop_requests(self) -> None:
        now = monotonic()
        renewal, writer = self._writer.renewal, self._writer
        if writer.lease_lost or writer.broken:
            self._kill()
            return
        self._send_stop(strongest(self._context.requests()))
        deadline = renewal.deadline()
        if deadline is not None and now >= deadline:
            self._time_out(now)
        self.messages.watchdog.looked(now)
        if now >= self._stalled_at():
            self._stall(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_because(
                self._kill_reason or KillReason.GRACE, self._detail or "asked to stop, it did not in time"
            )
        self._suspend_or_resume(now)

    def _send_stop(self, request: StopRequest | None) -> None:
        """Send a Stop once, and again only for a stronger request."""
        if request is None or not request.outranks(self._stop_sent):
            return
        self._stop_sent = request
        failpoint(f"{request.value}.seen")
        self._send(Stop(reason=request))
        grace = self._grace(request)
        if grace is not None:
            due = monotonic() + grace
            self._kill_at = due if self._kill_at is None else min(self._kill_at, due)
        else:
            self._kill_at = None

    def _grace(self, request: StopRequest) -> float | None:
        """Return the seconds until the kill. `finish` has no limit: it evaluates and writes artifacts."""
        if request is StopRequest.FINISH:
            return None
        if request is StopRequest.CANCEL:
            return self._settings.stop_grace_seconds
        left = self._context.time_left() if request is StopRequest.DRAIN else None
        return self._settings.drain_seconds if left is None else left

    def _time_out(self, now: float) -> None:
        if self._kill_reason is None and self.messages.last is None:
            self._kill_reason, self._detail = KillReason.TIMEOUT, "the job ran longer than timeout_seconds allows"
            self._send(Stop(reason=StopRequest.CANCEL))
            self._kill_at = now + self._settings.stop_grace_seconds

    def _send(self, frame: Stop | Champion | Agreed) -> None:
        with contextlib.suppress(OSError):  # it ended, or does not read any more
            self._runner.sock.send(encode(frame))

    def _kill_because(self, reason: KillReason, detail: str) -> None:
        if self._kill_reason is None:
            self._kill_reason, self._detail = reason, detail
        self._kill()

    def _kill(self) -> None:
        if not self._killed:
            self._killed = True
            self._runner.handle.signal(signal.SIGKILL)

    def _suspend_or_resume(self, now: float) -> None:
        """Suspend the runner while another worker may already have claimed its job."""
        overdue = now >= self._suspend_due()
        if overdue != self._suspended and not self._killed:
            self._suspended = overdue
            self._runner.handle.signal(signal.SIGSTOP if overdue else signal.SIGCONT)
            self.messages.watchdog.excuse(now)

    def _suspend_due(self) -> float:
        return self._writer.renewal.at + self._settings.lease_seconds * 2 / 3

    def _next_suspend(self) -> float | None:
        return None if self._suspended else self._suspend_due()

    def _stalled_at(self) -> float:
        watched = not (self._suspended or self._killed or self._kill_reason is KillReason.STALLED)
        return self.messages.watchdog.stalled_at() if watched else float("inf")

    def _stall(self, now: float) -> None:
        """Send SIGABRT, which makes the runner print its stack on stderr, and schedule the kill."""
        if self._kill_reason is None:
            self._kill_reason, self._detail = KillReason.STALLED, self.messages.watchdog.diagnosis(now)
        self._runner.handle.signal(signal.SIGABRT)
        self._kill_at = now + ABORT_GRACE_SECONDS

    # -- into SQL -------------------------------------------------------------------------------------

    def _flush_at(self) -> float:
        if self.messages.batch.is_urgent:
            return 0.0
        return self._flushed_at + self._settings.relay_seconds

    def _flush_if_due(self) -> None:
        now = monotonic()
        if self.messages.batch and self._writer.idle and now >= self._flush_at():
            self._flushed_at = now
            self._writer.submit(self._context.batches.writing(self.messages.take_batch(self._context.samples())))

    def _answer_champion_request(self) -> None:
        """Answer a request for the champion: read by the writer, fetched, then sent; each step wakes the loop."""
        if self._champion_named is not None:
            named, self._champion_named = self._champion_named, None
            self._context.fetch_champion(named, self._found)
        if self._champion_found is not None:
            found, self._champion_found = self._champion_found, None
            self._send(found)
        if self.messages.champion_requested and self._context.waits_for_champion():
            self.messages.watchdog.excuse(monotonic())
        elif self.messages.champion_requested and self._writer.idle:
            self.messages.champion_requested = False
            self._writer.submit(self._find_champion)

    def _answer_proposal(self) -> None:
        """Answer a proposed engine with the agreed one; the writer's commit wakes the loop."""
        if self._engine_agreed is not None:
            agreed, self._engine_agreed = self._engine_agreed, None
            self._send(Agreed(engine=agreed))
        if self.messages.proposed_engine is not None and self._writer.idle:
            proposed, self.messages.proposed_engine = self.messages.proposed_engine, None
            self._writer.submit(partial(self._agree, proposed))

    def _agree(self, proposed: str, conn: Connection) -> AttemptStatus:
        agreed = self._context.agree(conn, proposed)
        on_commit(conn, partial(setattr, self, "_engine_agreed", agreed))
        return self._context.batches.write(conn, Batch())

    def _find_champion(self, conn: Connection) -> AttemptStatus:
        status = self._context.batches.write(conn, Batch())
        on_commit(conn, partial(setattr, self, "_champion_named", self._context.champion(conn)))
        return status

    def _found(self, champion: Champion) -> None:
        self._champion_found = champion
        self._context.wake()

    def _runner_exit(self, exit: Exit) -> RunnerExit:
        messages = self.messages
        return RunnerExit(
            exit,
            messages.last,
            self._stop_sent,
            self._kill_reason,
            self._detail,
            tail=self._runner.err.tail(),
            peak_device_memory_bytes=messages.peak_device_memory_bytes,
            evidence=messages.evidence(),
        )
