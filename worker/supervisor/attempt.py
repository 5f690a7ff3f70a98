"""One attempt as a pipeline: pin references, start a runner, monitor it, finish, upload outputs, settle.

Once a model is final and evaluated, or all rows are computed, the device is free for the next attempt: a second runner
without it writes what is left, and uploads and settlement follow. While the database is down the attempt waits; after
a lost lease it discards everything.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection

from nightshift.errors import NotFound, RequestError
from nightshift.names import FRAMEWORKS, SHARD
from nightshift.states import JobState
from shared.errors import DeviceFailed, JobError, LeaseLost, StorageUnavailable, UnsupportedJob
from shared.events import emit
from shared.failpoints import failpoint
from shared.job_files.layout import attempt_dir, job_dir
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import ArtifactRecord, Claimed, Ending, LogRow, ModelVersionRecord, PromotionRecord
from worker.hardware import run_environment
from worker.hardware.frameworks import framework_of
from worker.hardware.oom_counter import OomCounter
from worker.hardware.resource_sampler import ResourceSampler
from worker.runners.device_lock import DeviceBusy, DeviceLock
from worker.runners.failures import failure
from worker.runners.forkserver_client import ForkserverUnavailable
from worker.runners.messages import Assignment, Champion, Result, encode
from worker.runners.runner_pool import Runner
from worker.supervisor import secrets
from worker.supervisor.assignment import (
    assignment_of,
    champion_now,
    package_facts,
    plugin_of,
    resolve_references,
    shards_left,
)
from worker.supervisor.attempt_writer import AttemptWriter
from worker.supervisor.batch import Batch, BatchWriter, Retention, artifact_records
from worker.supervisor.context import WorkerContext
from worker.supervisor.db_retry import DatabaseRetry, DrainTimeout
from worker.supervisor.outcomes import (
    Fail,
    Released,
    RunnerExit,
    Succeed,
    Verdict,
    blame_device,
    classify_exit,
    device_failed,
    ending_of,
    error,
    failed,
    may_be_of_device,
)
from worker.supervisor.runner_messages import RunnerMessages
from worker.supervisor.runner_monitor import RunContext, RunnerMonitor
from worker.supervisor.self_pipe import SelfPipe
from worker.supervisor.storage_sync import AttemptStorage

#: Seconds between releasing a job because no runner could be forked, and the next claim.
CANNOT_FORK_SECONDS = 5.0


class WorkerState(Protocol):
    """What an attempt asks and tells its worker."""

    def time_left(self) -> float | None:
        """Return the seconds that a draining worker has left, or None if it does not drain."""
        ...

    def leave_device(self) -> None:
        """Give the device to the next attempt; this one goes on without it."""
        ...

    def others_are_finishing(self) -> bool:
        """Return whether another attempt of this worker has left the device and is not settled."""
        ...


class Attempt:
    """One attempt of a job. `_run` calls the steps in order; each is a method below."""

    def __init__(self, context: WorkerContext, claimed: Claimed, claimed_at: float, worker: WorkerState) -> None:
        time_left = worker.time_left
        self.context, self.claimed, self.lease, self._worker = context, claimed, claimed.lease, worker
        self.wake = SelfPipe()
        self._time_left = time_left
        self._terminated = threading.Event()
        self._pinned = claimed.pinned
        self._secrets: dict[str, str] = {}
        self._retention = Retention(claimed, job_dir(context.settings.storage_root, self.lease.job_id))
        self._batches = BatchWriter(self.lease, self._retention)
        self.writer = AttemptWriter(
            context.engine, self.lease, context.settings.heartbeat_seconds, claimed_at, self.wake
        )
        self._lease_lost = LeaseLost(self.lease.job_id, self.lease.fence)
        self.database = DatabaseRetry(context.engine, self.writer, self._lease_lost, time_left)
        self._storage = AttemptStorage(
            context, claimed, self.writer, self.database, self.wake, self._stop_requests, self._terminated, time_left
        )

    def run(self) -> None:
        """Run the attempt until its outcome is in the database or its lease is lost."""
        self.writer.start()
        try:
            self._run()
        except LeaseLost as lost:
            emit("attempt.lease_lost", job_id=lost.job_id, attempt=lost.fence)
        except DrainTimeout:
            emit("attempt.left_to_rescue", job_id=self.lease.job_id, attempt=self.lease.fence)
        finally:
            self.writer.cancel()
            self.writer.close(timeout=5)
            try:
                self._storage.close()
            finally:
                self.wake.close()

    def _run(self) -> None:
        messages: RunnerMessages | None = None
        try:
            assignment = self._storage.patiently(self.assign)
            messages = self.create_messages()
            if assignment.part == "merging":
                runner_exit = self.merge(assignment, messages)
                verdict = classify_exit(runner_exit)
            elif (runner_exit := self.on_device(assignment, messages)).needs_device:
                verdict = self.check_device(classify_exit(runner_exit), assignment)
            else:
                self.database.write(partial(transitions.leave_devices, lease=self.lease))
                self._worker.leave_device()
                runner_exit = self.finish(assignment, messages, runner_exit)
                verdict = classify_exit(runner_exit)
            verdict, ending = self.upload_outputs(verdict, messages), ending_of(runner_exit)
        except (LeaseLost, DrainTimeout):
            raise
        except (ForkserverUnavailable, DeviceBusy, StorageUnavailable) as unavailable:
            # Not the job's fault: it is released without using up a retry. The pause keeps this worker from
            # claiming it again at once.
            emit("worker.cannot_fork", worker=self.context.name, error=str(unavailable))
            verdict, ending = Released(AttemptOutcome.DRAINED), Ending()
            self._terminated.wait(CANNOT_FORK_SECONDS)
        except BaseException as unexpected:
            verdict, ending = _verdict_of(unexpected), Ending()
        self.settle(verdict, ending, messages)

    # -- assign -----------------------------------------------------------------------------------

    def assign(self) -> Assignment:
        """Pin references, fetch inputs and return the assignment. Raises StorageUnavailable, BadData."""
        while facts := resolve_references(self.context, self.claimed, self.database):
            with contextlib.suppress(NotFound):  # deleted before it was pinned: resolve again
                self._pinned = self.database.write(partial(transitions.pin, lease=self.lease, facts=facts))
                break
        self._secrets = secrets.chosen(self.claimed.spec.get("secrets", ()), self.context.settings.secrets_file)
        divided = shards_left(self.claimed, self.database)
        merges = divided is not None and not divided.damaged  # it reads parts alone
        self._storage.fetch({} if merges else self._pinned, divided.parts if divided else {})
        return assignment_of(self.context, self.claimed, self._pinned, self._secrets, divided)

    def on_device(self, assignment: Assignment, messages: RunnerMessages) -> RunnerExit:
        """Let a runner with the device do its part."""
        with self.started(assignment) as runner:
            self._batches.environment = self._environment(assignment.threads)  # while the runner loads
            return self.watch(runner, messages)

    # -- start ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def started(self, assignment: Assignment) -> Iterator[Runner]:
        """Start a runner with its assignment; kill it at the end of the block."""
        runners, framework = self.context.runners, self._framework(self.claimed.spec)
        if framework not in runners.installed:
            raise UnsupportedJob(f"this worker has no {framework}; it has {', '.join(runners.installed)}")
        if (problem := runners.unusable.get(framework)) is not None:  # the device failed after the claim
            raise DeviceFailed(problem)
        runners.warm_up(framework, self._storage.is_wanted, self._report_cold)
        # A spare has computed already: a gang's ranks are forked before that.
        threads = None if assignment.resume or assignment.devices else assignment.threads
        with self._assigned(runners.take(framework, self.wake, self._lock, threads), assignment) as one:
            yield one

    @contextlib.contextmanager
    def _assigned(self, runner: Runner, assignment: Assignment) -> Iterator[Runner]:
        """Give a runner its assignment; kill it at the end of the block."""
        try:
            for device_id in assignment.devices[1:]:
                runner.more_locks.append(self._locked(DeviceLock.of_id(device_id, self.context.settings)))
            facts = {"pid": runner.handle.pid, "part": assignment.part}
            emit("runner.forked", job_id=self.lease.job_id, attempt=self.lease.fence, **facts)
            failpoint("runner.spawned")
            with contextlib.suppress(OSError):  # it died already; its exit status tells why
                runner.assign(encode(assignment))
            yield runner
        finally:
            runner.close()

    def _framework(self, spec: Mapping[str, Any]) -> str:
        """Return the framework of the runner: the first that works here, if the job needs none."""
        working = self.context.runners.frameworks or self.context.runners.installed
        return framework_of(spec, default=min(working, key=FRAMEWORKS.index))

    def _lock(self) -> int | None:
        """Take the device's lock for the runner. Raises DeviceBusy."""
        slot = self.context.runners.slot
        return self._locked(slot) if slot is not None else None

    def _locked(self, slot: DeviceLock) -> int:
        return slot.wait(self.context.settings.slot_wait_seconds, self._storage.is_wanted, self._report_busy_device)

    def _stop_requests(self) -> set[StopRequest | None]:
        """Return the stop requests of this worker and of the database."""
        status = self.writer.renewal.status
        return {self._own_request(), status.stop_requested if status else None}

    def _report_busy_device(self, busy: DeviceBusy) -> None:
        emit("slot.busy", worker=self.context.name, job_id=self.lease.job_id, pids=busy.pids)
        self._report_wait("device", LogRow("warning", f"the attempt waits: {busy}"))

    def _report_cold(self, framework: str) -> None:
        emit("forkserver.awaited", worker=self.context.name, job_id=self.lease.job_id, framework=framework)
        self._report_wait("framework", LogRow("info", f"the attempt waits until the worker has loaded {framework}"))

    def _report_wait(self, phase: str, log: LogRow) -> None:
        """Show what the attempt waits for before it has a runner."""
        progress = {"step": max((c.step for c in self.claimed.checkpoints), default=0), "phase": phase}
        self.database.write(lambda conn: transitions.record(conn, self.lease, progress=progress, logs=[log]))

    # -- monitor ----------------------------------------------------------------------------------

    def create_messages(self) -> RunnerMessages:
        """Create the receiver of the messages of this attempt's runners."""
        return RunnerMessages(
            self.context.settings,
            uploader=self._storage.uploader,
            superseded=self._retention.superseded_in_queue,
            secrets=self._secrets.values(),
            on_writing=self.context.runners.fork_next,
        )

    def create_monitor(self, runner: Runner, messages: RunnerMessages, sampler: ResourceSampler) -> RunnerMonitor:
        """Create the monitor of a runner."""
        context = RunContext(
            runner=runner,
            messages=messages,
            writer=self.writer,
            settings=self.context.settings,
            wake=self.wake,
            requests=self._stop_requests,
            batches=self._batches,
            champion=self._champion,
            fetch_champion=self._storage.fetch_champion,
            agree=lambda conn, engine: transitions.agree(conn, self.lease, engine),
            samples=sampler.take,
            time_left=self._time_left,
            waits_for_champion=self._worker.others_are_finishing,
        )
        return RunnerMonitor(context)

    def _environment(self, threads: int | None) -> dict[str, Any]:
        package = package_facts(plugin_of(self.context, self.claimed.spec, self._pinned), self._pinned.get("plugin"))
        of_program = {name: value for name, value in package.items() if value}
        return {**run_environment.of(self.context, self.claimed.spec, threads), **of_program}

    def watch(self, runner: Runner, messages: RunnerMessages) -> RunnerExit:
        """Monitor a runner until it has ended. Raises LeaseLost, or the error of a failed write."""
        kills = OomCounter()
        with ResourceSampler(runner.handle.pid, self.context.device) as sampler:
            runner_exit = self.create_monitor(runner, messages, sampler).run()
        if self.writer.lease_lost:
            raise self._lease_lost
        if self.writer.broken is not None:
            raise self.writer.broken
        return replace(runner_exit, oom_killed=kills.increased())

    def _own_request(self) -> StopRequest | None:
        """Return this worker's own stop request: terminate, drain, or one made before the claim."""
        if self._terminated.is_set():
            return StopRequest.CANCEL
        return self.claimed.stop_requested if self._time_left() is None else StopRequest.DRAIN

    def terminate(self) -> None:
        """Cancel the job: durably as soon as the database answers, and in the runner at once."""
        if not self._terminated.is_set():
            self._terminated.set()
            self.writer.submit_urgent(lambda conn: transitions.request_cancel(conn, self.lease))
            self.wake()

    def _champion(self, conn: Connection) -> Champion:
        return champion_now(conn, self.claimed.spec, self.context.settings.storage_root)

    def check_device(self, verdict: Verdict, assignment: Assignment) -> Verdict:
        """Return the verdict after a look at the devices, if one may be the reason of the end."""
        health = self.context.health
        if health is None or not isinstance(verdict, Fail) or not may_be_of_device(verdict):
            return verdict
        framework = self._framework(assignment.spec)
        problem = health.try_again(framework) or health.try_peers(framework, assignment.devices[1:])
        return verdict if problem is None else blame_device(verdict, problem)

    # -- finish -----------------------------------------------------------------------------------

    def finish(self, assignment: Assignment, messages: RunnerMessages, ended: RunnerExit) -> RunnerExit:
        """Let another runner, without the device, write what the one that has ended left. Return how that one ended."""
        if not ended.hands_over:
            return ended
        emit("attempt.finishing", job_id=self.lease.job_id, attempt=self.lease.fence)
        failpoint("attempt.finishing")
        rest = assignment.model_copy(update={"part": "finishing", "device": "cpu", "devices": []})
        messages.expect_finisher()
        finished = self._without_device(rest, messages)
        peak = max(ended.exit.peak_memory_bytes or 0, finished.exit.peak_memory_bytes or 0)
        return replace(finished, exit=replace(finished.exit, peak_memory_bytes=peak or None))

    def merge(self, assignment: Assignment, messages: RunnerMessages) -> RunnerExit:
        """Let a runner without the device join what the shards of the job left."""
        self.database.write(partial(transitions.leave_devices, lease=self.lease))
        self._worker.leave_device()
        self._batches.environment = self._environment(assignment.threads)
        self.context.runners.warm_up(self._framework(assignment.spec), self._storage.is_wanted, self._report_cold)
        return self._without_device(assignment, messages)

    def _without_device(self, assignment: Assignment, messages: RunnerMessages) -> RunnerExit:
        runner = self.context.runners.take_without_device(self._framework(assignment.spec), self.wake)
        with self._assigned(runner, assignment):
            return self.watch(runner, messages)

    # -- outputs ----------------------------------------------------------------------------------

    def upload_outputs(self, verdict: Verdict, messages: RunnerMessages) -> Verdict:
        """Complete the uploads and return the verdict that then applies."""
        found = artifact_records(messages.artifacts, self._artifacts_folder())
        files = {a.stored_as: a.sha256 for a in found} if isinstance(verdict, Succeed) else {}
        verdict = self._storage.deliver(verdict, messages, files)
        if self.claimed.kind == SHARD and isinstance(verdict, Succeed) and messages.unstored is not None:
            # The parts are all that a shard leaves.
            return Fail(AttemptOutcome.JOB_ERROR, error("storage", messages.unstored, retryable=True))
        return verdict

    # -- settle -----------------------------------------------------------------------------------

    def settle(self, verdict: Verdict, ending: Ending, messages: RunnerMessages | None) -> None:
        """Write the last batch and the outcome in one transaction."""
        emit("attempt.settling", job_id=self.lease.job_id, attempt=self.lease.fence)
        self.database.close_writer()
        batch = messages.batch if messages else Batch()
        if (broken := self.writer.broken) is not None:  # its last write may fail while it closes; that batch is lost
            batch = batch.logs_only()
            verdict = _verdict_of(broken) if isinstance(verdict, Succeed) else verdict
        records = artifact_records(messages.artifacts, self._artifacts_folder()) if messages else []
        state = self._settled(verdict, ending, batch, records)
        emit("attempt.settled", job_id=self.lease.job_id, attempt=self.lease.fence, state=state.value)

    def _settled(self, verdict: Verdict, ending: Ending, batch: Batch, records: list[ArtifactRecord]) -> JobState:
        try:
            return self.database.write(lambda conn: self._apply(conn, verdict, ending, batch, records))
        except (LeaseLost, DrainTimeout):
            raise
        except Exception as unwritable:  # such as a number out of range: write at least the outcome
            fail = _verdict_of(unwritable)
            return self.database.write(lambda conn: self._apply(conn, fail, ending, Batch(), []))

    def _apply(
        self, conn: Connection, verdict: Verdict, ending: Ending, batch: Batch, records: list[ArtifactRecord]
    ) -> JobState:
        if batch:
            self._batches.write(conn, batch)
        match verdict:
            case Succeed(result):
                stored = {"metrics": result.metrics, "model": result.model}
                register = self._model_version(result)
                if transitions.succeed(
                    conn, self.lease, result=stored, artifacts=records, register=register, ending=ending
                ):
                    return JobState.SUCCEEDED
                return transitions.stop(conn, self.lease, outcome=AttemptOutcome.CANCELLED, ending=ending)
            case Fail(outcome, error):
                limit = self.context.settings.poison_limit
                return transitions.fail(
                    conn, self.lease, outcome=outcome, error=error, ending=ending, poison_limit=limit
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
        promote, found = self.claimed.spec.get("promote"), result.comparison
        if not promote or found is None:
            return None
        return PromotionRecord(
            alias=promote["alias"],
            metric=promote["metric"],
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
    """Return the verdict of an error outside the runner: a missing data set, a lost device, a full disk, a bug."""
    if isinstance(unexpected, DeviceFailed):
        return device_failed(str(unexpected))
    if not isinstance(unexpected, (JobError, RequestError)):
        emit("attempt.surprised", error=repr(unexpected))
    return failed(failure(unexpected))
