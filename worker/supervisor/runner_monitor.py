"""Between a live runner and SQL: reads its frames and output, hands them on in batches, obeys clocks and stop requests.

An event loop that never waits for anything but events: SQL is the scribe's, processes are the forkserver's.
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
from worker.runners.messages import Champion, Stop, encode
from worker.runners.output_capture import LineReader
from worker.runners.runner_pool import Runner
from worker.supervisor.attempt_writer import AttemptWriter
from worker.supervisor.batch import Batch, BatchWriter
from worker.supervisor.outcomes import KillReason, RunnerExit
from worker.supervisor.runner_messages import RunnerMessages
from worker.supervisor.self_pipe import SelfPipe
from worker.supervisor.watchdog import LOOK_SECONDS

#: From SIGABRT to SIGKILL of a runner that is stuck (seconds): time to print where.
LAST_WORDS_SECONDS = 1.0


@dataclass(frozen=True)
class RunContext:
    """The parts of an attempt that the relay of its runner works with."""

    runner: Runner
    heard: RunnerMessages
    scribe: AttemptWriter
    settings: Settings
    wake: SelfPipe
    #: Return the stop requests of this worker and of the database.
    requests: Callable[[], set[StopRequest | None]]
    batches: BatchWriter
    #: Read the version that a new model is compared with.
    champion: Callable[[Connection], Champion]
    #: Fetch the champion's model to this host, then call the function with it; returns at once.
    fetch_champion: Callable[[Champion, Callable[[Champion], None]], None]
    #: Return the resource samples since the last call.
    samples: Callable[[], list[SampleRow]]


class RunnerMonitor:
    def __init__(self, context: RunContext) -> None:
        self._context, self._settings = context, context.settings
        self._runner, self._scribe, self.heard = context.runner, context.scribe, context.heard
        self._champion_named: Champion | None = None
        self._champion_found: Champion | None = None
        self._selector = selectors.DefaultSelector()
        self._flushed_at = 0.0
        self._frozen = False
        self._killed = False
        self._kill_at: float | None = None
        self._asked: StopRequest | None = None
        self._cut: KillReason | None = None
        self._detail = ""

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> RunnerExit:
        """Until the runner is gone and all it said is read. What is not yet in SQL stays in `heard.batch`."""
        self._register()
        while self._runner.handle.exit is None:
            self._apply_stop_requests()
            self._answer_if_asked()
            self.heard.collect()
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
            (self._context.wake, self._context.wake.clear),
        ):
            self._selector.register(source, selectors.EVENT_READ, heard)

    def _patience(self) -> float:
        """Seconds until a clock must be looked at."""
        now = monotonic()
        dues = [self._frozen_at(), self._kill_at, self._scribe.renewal.deadline()]
        if self.heard.batch and self._scribe.idle:
            dues.append(self._flush_at())
        soonest = min((due for due in dues if due is not None and due > now), default=now + LOOK_SECONDS)
        return max(0.0, min(soonest, now + LOOK_SECONDS, max(now, self._stalled_at())) - now)

    # -- what the runner says -----------------------------------------------------------------------

    def _on_frames(self) -> None:
        if not self.heard.read(self._runner.sock):
            self._selector.unregister(self._runner.sock)
        if self.heard.objection is not None:
            self._end(*self.heard.objection)

    def _on_output(self, pipe: LineReader, level: str) -> None:
        budget = self.heard.print_budget
        if budget.spent():
            budget.drop(*pipe.skip())
        else:
            for line in pipe.read():
                if line.strip():
                    self.heard.log(level, line, budget)
        if pipe.ended:
            self._selector.unregister(pipe)

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
        self.heard.tell_of_drops(self.heard.log_budget)
        self.heard.tell_of_drops(self.heard.print_budget)
        self._selector.close()

    def _registered(self) -> set[Any]:
        return {key.fileobj for key in self._selector.get_map().values()}

    # -- what clocks and people want ------------------------------------------------------------------

    def _apply_stop_requests(self) -> None:
        now = monotonic()
        renewal, scribe = self._scribe.renewal, self._scribe
        if scribe.lease_lost or scribe.broken:
            self._kill()
            return
        self._ask(strongest(self._context.requests()))
        deadline = renewal.deadline()
        if deadline is not None and now >= deadline:
            self._time_out(now)
        self.heard.watchdog.looked(now)
        if now >= self._stalled_at():
            self._stall(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._end(self._cut or KillReason.GRACE, self._detail or "asked to stop, it did not in time")
        self._freeze_or_thaw(now)

    def _ask(self, request: StopRequest | None) -> None:
        """Send a Stop once, and again only if it is stronger."""
        if request is None or not request.outranks(self._asked):
            return
        self._asked = request
        failpoint(f"{request.value}.seen")
        self._tell(Stop(reason=request))
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
        if self._cut is None and self.heard.last is None:
            self._cut, self._detail = KillReason.TIMEOUT, "the job ran longer than timeout_seconds allows"
            self._tell(Stop(reason=StopRequest.CANCEL))
            self._kill_at = now + self._settings.stop_grace_seconds

    def _tell(self, frame: Stop | Champion) -> None:
        with contextlib.suppress(OSError):  # it is gone, or so stuck that only the kill will reach it
            self._runner.sock.send(encode(frame))

    def _end(self, cut: KillReason, detail: str) -> None:
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
            self.heard.watchdog.excuse(now)

    def _frozen_at_raw(self) -> float:
        return self._scribe.renewal.at + self._settings.lease_seconds * 2 / 3

    def _frozen_at(self) -> float | None:
        return None if self._frozen else self._frozen_at_raw()

    def _stalled_at(self) -> float:
        watched = not (self._frozen or self._killed or self._cut is KillReason.STALLED)
        return self.heard.watchdog.stalled_at() if watched else float("inf")

    def _stall(self, now: float) -> None:
        """SIGABRT makes it say on stderr where it hangs; it is killed a moment later, whatever it makes of that."""
        if self._cut is None:
            self._cut, self._detail = KillReason.STALLED, self.heard.watchdog.diagnosis(now)
        self._runner.handle.signal(signal.SIGABRT)
        self._kill_at = now + LAST_WORDS_SECONDS

    # -- into SQL -------------------------------------------------------------------------------------

    def _flush_at(self) -> float:
        if self.heard.batch.is_urgent:
            return 0.0
        return self._flushed_at + self._settings.relay_seconds

    def _flush_if_due(self) -> None:
        now = monotonic()
        if self.heard.batch and self._scribe.idle and now >= self._flush_at():
            self._flushed_at = now
            self._scribe.put(self._context.batches.writing(self.heard.take_batch(self._context.samples())))

    def _answer_if_asked(self) -> None:
        """Whom the new model is compared with: read by the scribe, brought, and then told (a wake-up ends each wait)."""
        if self._champion_named is not None:
            named, self._champion_named = self._champion_named, None
            self._context.fetch_champion(named, self._found)
        if self._champion_found is not None:
            found, self._champion_found = self._champion_found, None
            self._tell(found)
        if self.heard.champion_asked and self._scribe.idle:
            self.heard.champion_asked = False
            self._scribe.put(self._find_champion)

    def _find_champion(self, conn: Connection) -> AttemptStatus:
        standing = self._context.batches.write(conn, Batch())
        on_commit(conn, partial(setattr, self, "_champion_named", self._context.champion(conn)))
        return standing

    def _found(self, champion: Champion) -> None:
        self._champion_found = champion
        self._context.wake()

    def _ended(self, exit: Exit) -> RunnerExit:
        heard = self.heard
        return RunnerExit(
            exit,
            heard.last,
            self._asked,
            self._cut,
            self._detail,
            tail=self._runner.err.tail(),
            peak_device_memory_bytes=heard.peak_device_memory_bytes,
            evidence=heard.evidence(),
        )
