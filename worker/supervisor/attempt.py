"""One attempt as a pipeline: pin the data → assign → start a runner → relay → judge → settle.

A database that does not answer makes an attempt wait; a lease that is lost makes it discard everything.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from nightshift.errors import NotFound, RequestError
from nightshift.states import JobState
from shared import doorbell
from shared.errors import JobError, LeaseLost, StorageUnavailable, UnsupportedJob
from shared.events import emit
from shared.failpoints import failpoint
from shared.job_files.layout import attempt_dir, job_dir
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import (
    ArtifactRecord,
    Claimed,
    Ending,
    LogRow,
    ModelVersionRecord,
    PromotionRecord,
)
from worker.hardware import run_environment
from worker.hardware.frameworks import framework_of
from worker.hardware.oom_counter import OomCounter
from worker.hardware.resource_sampler import ResourceSampler
from worker.runners.device_lock import DeviceBusy
from worker.runners.forkserver_client import ForkserverUnavailable
from worker.runners.messages import Assignment, Champion, Result, encode
from worker.runners.runner import failure
from worker.runners.runner_pool import Runner
from worker.supervisor.assignment import assignment_of, champion_now, resolve_references
from worker.supervisor.attempt_writer import AttemptWriter
from worker.supervisor.batch import Batch, BatchWriter, Retention, artifact_records
from worker.supervisor.context import WorkerContext
from worker.supervisor.db_retry import DatabaseRetry, DrainTimeout
from worker.supervisor.outcomes import Fail, Released, RunnerExit, Succeed, Verdict, classify_exit, ending_of, failed
from worker.supervisor.runner_messages import RunnerMessages
from worker.supervisor.runner_monitor import RunContext, RunnerMonitor
from worker.supervisor.self_pipe import SelfPipe
from worker.supervisor.storage_sync import AttemptStorage

#: Between giving a job back because no runner could be forked, and the next try (seconds).
CANNOT_FORK_SECONDS = 5.0


class Attempt:
    """The pipeline. Its steps are in `_run`, in order; each is a method below."""

    def __init__(
        self, place: WorkerContext, claimed: Claimed, claimed_at: float, time_left: Callable[[], float | None]
    ) -> None:
        self.place, self.claimed, self.lease = place, claimed, claimed.lease
        self.wake = SelfPipe()
        self._time_left = time_left
        self._terminated = threading.Event()
        self._pinned = claimed.pinned
        self._retention = Retention(claimed, job_dir(place.settings.storage_root, self.lease.job_id))
        self._batches = BatchWriter(self.lease, self._retention)
        self.scribe = AttemptWriter(place.engine, self.lease, place.settings.heartbeat_seconds, claimed_at, self.wake)
        self._lease_lost = LeaseLost(self.lease.job_id, self.lease.fence)
        self.patience = DatabaseRetry(place.engine, self.scribe, self._lease_lost, time_left)
        self._stowing = AttemptStorage(
            place, claimed, self.scribe, self.patience, self.wake, self._asked, self._terminated, time_left
        )

    def run(self) -> None:
        self.scribe.start()
        try:
            self._run()
        except LeaseLost as lost:
            emit("attempt.lease_lost", job_id=lost.job_id, attempt=lost.fence)
        except DrainTimeout:
            emit("attempt.left_to_rescue", job_id=self.lease.job_id, attempt=self.lease.fence)
        finally:
            self.scribe.cancel()
            self.scribe.close(timeout=5)
            try:
                self._stowing.close()
            finally:
                self.wake.close()

    def _run(self) -> None:
        relay: RunnerMonitor | None = None
        try:
            assignment = self._stowing.patiently(self.assign)
            with self.started(assignment) as runner, ResourceSampler(runner.handle.pid, self.place.device) as sampler:
                relay = self.relay_for(runner, sampler)
                ended = self.relay(relay)
            verdict, ending = self.delivered(classify_exit(ended), relay), ending_of(ended)
        except (LeaseLost, DrainTimeout):
            raise
        except (ForkserverUnavailable, DeviceBusy, StorageUnavailable) as unavailable:
            # Not the job's fault: it goes back uncharged. The pause keeps this worker from taking it again at once.
            emit("worker.cannot_fork", worker=self.place.name, error=str(unavailable))
            verdict, ending = Released(AttemptOutcome.DRAINED), Ending()
            self._terminated.wait(CANNOT_FORK_SECONDS)
        except BaseException as unexpected:
            verdict, ending = _verdict_of(unexpected), Ending()
        self.settle(verdict, ending, relay)

    # -- assign -----------------------------------------------------------------------------------

    def assign(self) -> Assignment:
        while facts := resolve_references(self.place, self.claimed, self.patience):
            with contextlib.suppress(NotFound):  # deleted between the look and the pin: what does it mean now?
                self.patience.write(partial(transitions.pin, lease=self.lease, facts=facts))
                self._pinned = {**facts, **self.claimed.pinned}
                break
        self._stowing.fetch(self._pinned)
        return assignment_of(self.place, self.claimed, self._pinned)

    # -- start ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def started(self, assignment: Assignment) -> Iterator[Runner]:
        """A runner with its assignment. On leaving it is dead, whatever happened."""
        framework = framework_of(self.claimed.spec)
        if framework not in self.place.runners.frameworks:
            raise UnsupportedJob(f"this worker has no {framework}; it has {', '.join(self.place.runners.frameworks)}")
        runner = self.place.runners.take(framework, self.wake, not assignment.resume, self._lock)
        try:
            emit("runner.forked", job_id=self.lease.job_id, attempt=self.lease.fence, pid=runner.handle.pid)
            failpoint("runner.spawned")
            with contextlib.suppress(OSError):  # it died already; its exit status will say how
                runner.sock.sendall(encode(assignment))
            yield runner
        finally:
            runner.close()

    def _lock(self) -> int | None:
        """The device's lock, for the runner to hold. Raises SlotBusy."""
        slot = self.place.runners.slot
        if slot is None:
            return None
        return slot.wait(self.place.settings.slot_wait_seconds, self._stowing.is_wanted, self._tell_of_wait)

    def _asked(self) -> set[StopRequest | None]:
        """By this worker, and by SQL."""
        standing = self.scribe.renewal.standing
        return {self._wanted(), standing.stop_requested if standing else None}

    def _tell_of_wait(self, busy: DeviceBusy) -> None:
        emit("slot.busy", worker=self.place.name, job_id=self.lease.job_id, pids=busy.pids)
        progress = {"step": max((c.step for c in self.claimed.checkpoints), default=0), "phase": "device"}
        logs = [LogRow("warning", f"the attempt waits: {busy}")]
        self.patience.write(lambda conn: transitions.record(conn, self.lease, progress=progress, logs=logs))

    # -- relay ------------------------------------------------------------------------------------

    def relay_for(self, runner: Runner, sampler: ResourceSampler) -> RunnerMonitor:
        self._batches.environment = run_environment.of(self.place, self.claimed.spec)  # while the runner loads
        settings = self.place.settings
        heard = RunnerMessages(settings, carrier=self._stowing.uploader, needless=self._retention.needless)
        context = RunContext(
            runner=runner,
            heard=heard,
            scribe=self.scribe,
            settings=settings,
            wake=self.wake,
            requests=self._asked,
            batches=self._batches,
            champion=self._champion,
            fetch_champion=self._stowing.fetch_champion,
            samples=sampler.take,
        )
        return RunnerMonitor(context)

    def relay(self, relay: RunnerMonitor) -> RunnerExit:
        kills = OomCounter()
        ended = relay.run()
        if self.scribe.lease_lost:
            raise self._lease_lost
        if self.scribe.broken is not None:
            raise self.scribe.broken
        return replace(ended, oom_killed=kills.increased())

    def _wanted(self) -> StopRequest | None:
        """What this worker knows before SQL says it: an operator's Terminate, a drain, a request of before the
        claim."""
        if self._terminated.is_set():
            return StopRequest.CANCEL
        return self.claimed.stop_requested if self._time_left() is None else StopRequest.DRAIN

    def terminate(self) -> None:
        """Durable as soon as the database answers, so that a worker that dies now does not forget it; the runner hears
        of it at once."""
        if not self._terminated.is_set():
            self._terminated.set()
            self.scribe.submit_urgent(lambda conn: transitions.request_cancel(conn, self.lease))
            self.wake()

    def _champion(self, conn: Connection) -> Champion:
        return champion_now(conn, self.claimed.spec, self.place.settings.storage_root)

    # -- deliver ----------------------------------------------------------------------------------

    def delivered(self, verdict: Verdict, relay: RunnerMonitor) -> Verdict:
        """What it leaves is in the storage."""
        found = artifact_records(relay.heard.artifacts, self._artifacts_folder())
        files = {a.stored_as: a.sha256 for a in found} if isinstance(verdict, Succeed) else {}
        return self._stowing.deliver(verdict, relay.heard, files)

    # -- settle -----------------------------------------------------------------------------------

    def settle(self, verdict: Verdict, ending: Ending, relay: RunnerMonitor | None) -> None:
        """The last write of this attempt: what is left to say, and how it ended, in one transaction."""
        emit("attempt.settling", job_id=self.lease.job_id, attempt=self.lease.fence)
        self.patience.close_writer()
        batch = relay.heard.batch if relay else Batch()
        if (broken := self.scribe.broken) is not None:  # also while the scribe closed: what it had to write is lost
            batch = batch.words()
            verdict = _verdict_of(broken) if isinstance(verdict, Succeed) else verdict
        records = artifact_records(relay.heard.artifacts, self._artifacts_folder()) if relay else []
        state = self._settled(verdict, ending, batch, records)
        emit("attempt.settled", job_id=self.lease.job_id, attempt=self.lease.fence, state=state.value)
        if state is JobState.QUEUED:
            doorbell.ring_later(str(self.claimed.spec.get("resources", {}).get("device", "auto")), self.lease.job_id)

    def _settled(self, verdict: Verdict, ending: Ending, batch: Batch, records: list[ArtifactRecord]) -> JobState:
        try:
            return self.patience.write(lambda conn: self._apply(conn, verdict, ending, batch, records))
        except (LeaseLost, DrainTimeout):
            raise
        except Exception as unwritable:  # a number no database takes, say: then at least the ending is written
            failure_ = _verdict_of(unwritable)
            return self.patience.write(lambda conn: self._apply(conn, failure_, ending, Batch(), []))

    def _apply(
        self, conn: Connection, verdict: Verdict, ending: Ending, batch: Batch, records: list[ArtifactRecord]
    ) -> JobState:
        if batch:
            self._batches.write(conn, batch)
        match verdict:
            case Succeed(result):
                told = {"metrics": result.metrics, "model": result.model}
                register = self._model_version(result)
                if transitions.succeed(
                    conn, self.lease, result=told, artifacts=records, register=register, ending=ending
                ):
                    return JobState.SUCCEEDED
                return transitions.stop(conn, self.lease, outcome=AttemptOutcome.CANCELLED, ending=ending)
            case Fail(outcome, told):
                limit = self.place.settings.poison_limit
                return transitions.fail(
                    conn, self.lease, outcome=outcome, error=told, ending=ending, poison_limit=limit
                )
            case Released(AttemptOutcome.CANCELLED | AttemptOutcome.PAUSED as outcome):
                return transitions.stop(conn, self.lease, outcome=outcome, ending=ending)
            case Released(outcome):
                return transitions.release(conn, self.lease, outcome=outcome, ending=ending)

    def _model_version(self, result: Result) -> ModelVersionRecord | None:
        name = self.claimed.spec.get("register_as")
        if not name or result.model is None:
            return None
        parent = self._pinned.get("parent")
        return ModelVersionRecord(
            name=name,
            family=str(result.model["family"]),
            framework=str(result.model["framework"]),
            dataset=self._pinned.get("dataset"),
            parent=parent["ref"] if parent else None,
            metrics=result.metrics,
            promotion=self._promotion(result),
        )

    def _promotion(self, result: Result) -> PromotionRecord | None:
        asked, found = self.claimed.spec.get("promote"), result.comparison
        if not asked or found is None:
            return None
        return PromotionRecord(
            alias=asked["alias"],
            metric=asked["metric"],
            evaluated_on=str(self._pinned.get("evaluate_on")),
            better=found.better,
            reason=found.reason,
            previous=found.version,
            candidate=found.candidate,
            champion=found.champion,
            lower_bound=found.lower_bound,
        )

    def _artifacts_folder(self) -> str:
        return str(attempt_dir(Path(), self.lease.job_id, self.lease.fence) / "artifacts")


def _verdict_of(unexpected: BaseException) -> Verdict:
    """Of what went wrong outside the runner: a data set that is not there, a disk that is full, our own mistake."""
    if not isinstance(unexpected, (JobError, RequestError)):
        emit("attempt.surprised", error=repr(unexpected))
    return failed(failure(unexpected))
