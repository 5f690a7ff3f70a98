"""One attempt, from claim to settlement: claim → pin the data → assign → start a runner → relay → judge → settle.

Runs in the Celery task's thread. Nothing a job does ends the worker: whatever is raised in here is told and survived.
A database that does not answer makes an attempt wait; a lease that is lost makes it discard everything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

from sqlalchemy import Connection, Engine

from shared import broker
from shared.artifacts.layout import attempt_dir, dataset_dir, job_dir
from shared.checkpoints.retention import Kept, superseded
from shared.datasets.builtins import BUILTIN
from shared.datasets.registry import ensure_builtin
from shared.datasets.registry import resolve as resolve_dataset
from shared.db.engine import on_commit, read, write
from shared.errors import DatabaseUnavailable, JobError, LeaseLost, RequestError, UnsupportedJob
from shared.events import emit
from shared.failpoints import failpoint
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome, JobState, StopRequest
from shared.jobs.transitions import (
    ArtifactRecord,
    CheckpointRecord,
    Claimed,
    Claimer,
    Ending,
    ModelVersionRecord,
    Standing,
)
from shared.models.registry import resolve as resolve_model
from shared.settings import Settings
from worker.devices import Device
from worker.forkclient import ForkserverUnavailable
from worker.frameworks import framework_of
from worker.memory import OomCounter
from worker.outcomes import Ended, Fail, Leave, Succeed, Verdict, ending_of, error, failed, judge
from worker.protocol import Assignment, Result, ResumePoint, encode
from worker.relay import Batch, Relay, Wake, artifact_records, write_batch
from worker.runner import failure
from worker.scribe import RETRY_SECONDS, Scribe
from worker.spare import Runner, Runners

T = TypeVar("T")

#: What a drain still waits for the database after its runner is gone (seconds).
SETTLE_SECONDS = 5.0


class OutOfTime(Exception):
    """The worker must leave and the database still does not answer: the rescuer will find the job."""


@dataclass(frozen=True)
class Workplace:
    """What every attempt of this worker shares."""

    name: str  # gpu0@host
    device: Device
    engine: Engine
    settings: Settings
    runners: Runners


class Supervisor:
    """Runs one attempt at a time; `drain` and `terminate` may come from any thread or signal handler."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._attempt: Attempt | None = None
        self._draining_since: float | None = None

    @property
    def job_id(self) -> str | None:
        attempt = self._attempt
        return attempt.lease.job_id if attempt else None

    @property
    def draining(self) -> bool:
        return self._draining_since is not None

    def drain(self) -> None:
        """Give the present job back after a checkpoint, and take no other."""
        if self._draining_since is None:
            self._draining_since = monotonic()
        if (attempt := self._attempt) is not None:
            attempt.wake()

    def terminate(self) -> None:
        """An operator ended the present attempt (Flower's Terminate): its job is cancelled, gracefully."""
        if (attempt := self._attempt) is not None:
            attempt.terminate()

    def run_one(self, celery_task_id: str | None) -> None:
        """Serve one doorbell. Never raises."""
        if self.draining:
            return
        try:
            claimed_at = monotonic()
            claimed = self._claim(celery_task_id)
            if claimed is None:
                return
            self._attempt = Attempt(self._workplace, claimed, claimed_at, self._time_left)
            self._attempt.run()
        except DatabaseUnavailable as unavailable:
            emit("worker.cannot_claim", worker=self._workplace.name, error=str(unavailable))
        except BaseException as unexpected:  # MemoryError and SystemExit too: this thread must serve the next one
            emit("worker.survived", worker=self._workplace.name, error=repr(unexpected))
        finally:
            self._attempt = None
            self._workplace.runners.idle()

    def _claim(self, celery_task_id: str | None) -> Claimed | None:
        place = self._workplace
        claimer = Claimer(
            worker=place.name,
            device=place.device.kind,
            device_label=place.device.name,
            frameworks=place.runners.frameworks,
            celery_task_id=celery_task_id,
        )
        with write(place.engine) as conn:
            return transitions.claim(conn, claimer, place.settings.lease_seconds)

    def _time_left(self) -> float | None:
        """Seconds a draining worker still has; None: it does not drain."""
        if self._draining_since is None:
            return None
        return self._draining_since + self._workplace.settings.drain_seconds - monotonic()


class Attempt:
    """The pipeline. Its steps are in `run`, in order; each is a method below."""

    def __init__(
        self, place: Workplace, claimed: Claimed, claimed_at: float, time_left: Callable[[], float | None]
    ) -> None:
        self.place, self.claimed, self.lease = place, claimed, claimed.lease
        self.wake = Wake()
        self._time_left = time_left
        self._terminated = threading.Event()
        self._checkpoints = [Kept(row.id, row.step, row.is_best) for row in claimed.checkpoints]
        self._pinned = claimed.pinned
        self._paths = {row.id: row.path for row in claimed.checkpoints}
        self._root = place.settings.storage_root
        self.scribe = Scribe(place.engine, self.lease, place.settings.heartbeat_seconds, claimed_at, self.wake)

    def run(self) -> None:
        self.scribe.start()
        try:
            self._run()
        except LeaseLost as lost:
            emit("attempt.lease_lost", job_id=lost.job_id, attempt=lost.fence)
        except OutOfTime:
            emit("attempt.left_to_rescue", job_id=self.lease.job_id, attempt=self.lease.fence)
        finally:
            self.scribe.abandon()
            self.scribe.close(timeout=5)
            self.wake.close()

    def _run(self) -> None:
        relay: Relay | None = None
        try:
            assignment = self.assign()
            with self.started(assignment) as runner:
                relay = self.relay_for(runner)
                ended = self.relay(relay)
            verdict, ending = judge(ended), ending_of(ended)
        except (LeaseLost, OutOfTime):
            raise
        except ForkserverUnavailable as unavailable:
            verdict, ending = (
                Fail(AttemptOutcome.CRASHED, error("no_runner", str(unavailable), retryable=True)),
                Ending(),
            )
        except BaseException as unexpected:
            verdict, ending = _verdict_of(unexpected), Ending()
        self.settle(verdict, ending, relay)

    # -- assign -----------------------------------------------------------------------------------

    def assign(self) -> Assignment:
        """All the runner needs to know. Pins the data set version and the parent model on the first attempt."""
        spec, pinned = self.claimed.spec, self._pinned
        facts = self._facts_to_pin()
        if facts:
            self._persist(lambda conn: transitions.pin(conn, self.lease, facts))
            self._pinned = pinned = {**facts, **pinned}
        job = job_dir(self._root, self.lease.job_id)
        work = attempt_dir(self._root, self.lease.job_id, self.lease.fence)
        os.makedirs(work / "artifacts", exist_ok=True)
        parent = pinned.get("parent")
        return Assignment(
            job_id=self.lease.job_id,
            fence=self.lease.fence,
            spec=spec,
            job_dir=str(job),
            work_dir=str(work),
            dataset_dir=str(dataset_dir(self._root, pinned["dataset_sha256"])),
            parent_model_dir=str(self._root / parent["folder"]) if parent else None,
            resume=[ResumePoint(id=c.id, path=c.path, step=c.step, sha256=c.sha256) for c in self.claimed.checkpoints],
            device=self.place.device.kind,
            threads=self.place.settings.torch_threads or os.cpu_count(),
        )

    def _facts_to_pin(self) -> dict[str, object]:
        spec, pinned = self.claimed.spec, self.claimed.pinned
        facts: dict[str, object] = {}
        if "dataset_sha256" not in pinned:
            facts |= self._dataset_facts(str(spec["dataset"]))
        if spec.get("model_ref") and "parent" not in pinned:
            facts |= self._parent_facts(str(spec["model_ref"]))
        return facts

    def _dataset_facts(self, ref: str) -> dict[str, object]:
        place = self.place
        if ref in BUILTIN:
            version = self._patiently(lambda: ensure_builtin(place.engine, place.settings, ref))
        else:
            version = self._patiently(lambda: self._read(lambda conn: resolve_dataset(conn, ref)))
        return {"dataset": f"{version.name}@{version.version}", "dataset_sha256": version.sha256}

    def _parent_facts(self, ref: str) -> dict[str, object]:
        model = self._patiently(lambda: self._read(lambda conn: resolve_model(conn, ref, self.claimed.owner_id)))
        parent = {"ref": ref, "folder": model.folder, "name": model.name, "version": model.version}
        return {"parent": parent, "family": model.family, "parent_framework": model.framework}

    # -- start ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def started(self, assignment: Assignment) -> Iterator[Runner]:
        """A runner with its assignment. On leaving it is dead, whatever happened."""
        framework = framework_of(self.claimed.spec)
        if framework not in self.place.runners.frameworks:
            raise UnsupportedJob(f"this worker has no {framework}; it has {', '.join(self.place.runners.frameworks)}")
        runner = self.place.runners.take(framework, self.wake, fresh_start=not assignment.resume)
        try:
            emit("runner.forked", job_id=self.lease.job_id, attempt=self.lease.fence, pid=runner.handle.pid)
            failpoint("runner.spawned")
            with contextlib.suppress(OSError):  # it died already; its exit status will say how
                runner.sock.sendall(encode(assignment))
            yield runner
        finally:
            runner.close()

    # -- relay ------------------------------------------------------------------------------------

    def relay_for(self, runner: Runner) -> Relay:
        return Relay(runner, self.scribe, self.place.settings, self.wake, self._wanted, self._write_batch)

    def relay(self, relay: Relay) -> Ended:
        kills = OomCounter()
        ended = relay.run()
        if self.scribe.lease_lost:
            raise LeaseLost(self.lease.job_id, self.lease.fence)
        if self.scribe.broken is not None:
            raise self.scribe.broken
        return replace(ended, oom_killed=kills.increased())

    def _wanted(self) -> StopRequest | None:
        """What this worker knows before SQL says it: an operator's Terminate, a drain, a request of before the claim."""
        if self._terminated.is_set():
            return StopRequest.CANCEL
        return self.claimed.stop_requested if self._time_left() is None else StopRequest.DRAIN

    def terminate(self) -> None:
        self._terminated.set()
        self.wake()

    def _write_batch(self, conn: Connection, batch: Batch) -> Standing:
        standing = write_batch(conn, self.lease, batch)
        return self._retire(conn, batch.checkpoints) or standing

    def _retire(self, conn: Connection, new: list[CheckpointRecord]) -> Standing | None:
        """Rows of superseded checkpoints first, their folders after the commit: what is listed exists."""
        if not new:
            return None
        policy = self.claimed.spec.get("checkpoint") or {}
        kept = [*self._checkpoints, *(Kept(c.id, c.step, c.is_best) for c in new)]
        if any(c.is_best for c in new):  # the mark has moved
            kept = [replace(k, is_best=k.is_best and k.id in {c.id for c in new}) for k in kept]
        paths = self._paths | {c.id: c.path for c in new}
        gone = superseded(kept, keep_last=policy.get("keep_last", 2), keep_best=policy.get("keep_best", True))
        on_commit(conn, partial(self._retired, kept, paths, gone))
        return transitions.delete_checkpoints(conn, self.lease, gone) if gone else None

    def _retired(self, kept: list[Kept], paths: dict[str, str], gone: list[str]) -> None:
        self._checkpoints = [k for k in kept if k.id not in gone]
        self._paths = {key: path for key, path in paths.items() if key not in gone}
        for key in gone:
            shutil.rmtree(job_dir(self._root, self.lease.job_id) / paths[key], ignore_errors=True)

    # -- settle -----------------------------------------------------------------------------------

    def settle(self, verdict: Verdict, ending: Ending, relay: Relay | None) -> None:
        """The last write of this attempt: what is left to say, and how it ended, in one transaction."""
        while not self.scribe.close(RETRY_SECONDS):
            self._check_patience()
        self._check_patience()
        batch = relay.batch if relay else Batch()
        records = artifact_records(relay.artifacts, self._artifacts_folder()) if relay else []
        state = self._persist(lambda conn: self._apply(conn, verdict, ending, batch, records))
        emit("attempt.settled", job_id=self.lease.job_id, attempt=self.lease.fence, state=state.value)
        if state is JobState.QUEUED:
            broker.ring_later(str(self.claimed.spec.get("resources", {}).get("device", "auto")), self.lease.job_id)

    def _apply(
        self, conn: Connection, verdict: Verdict, ending: Ending, batch: Batch, records: list[ArtifactRecord]
    ) -> JobState:
        if batch:
            self._write_batch(conn, batch)
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
            case Leave(AttemptOutcome.CANCELLED | AttemptOutcome.PAUSED as outcome):
                return transitions.stop(conn, self.lease, outcome=outcome, ending=ending)
            case Leave(outcome):
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
        )

    def _artifacts_folder(self) -> str:
        return str(attempt_dir(Path(), self.lease.job_id, self.lease.fence) / "artifacts")

    # -- patience -----------------------------------------------------------------------------------

    def _persist(self, action: Callable[[Connection], T]) -> T:
        def once() -> T:
            with write(self.place.engine) as conn:
                return action(conn)

        return self._patiently(once)

    def _read(self, action: Callable[[Connection], T]) -> T:
        with read(self.place.engine) as conn:
            return action(conn)

    def _patiently(self, action: Callable[[], T]) -> T:
        """Until the database answers. The heartbeat goes on meanwhile; a lost lease or the end of a drain ends it."""
        while True:
            try:
                return action()
            except DatabaseUnavailable:
                self._check_patience()
                sleep(RETRY_SECONDS)

    def _check_patience(self) -> None:
        if self.scribe.lease_lost:
            raise LeaseLost(self.lease.job_id, self.lease.fence)
        left = self._time_left()
        if left is not None and left <= -SETTLE_SECONDS:
            raise OutOfTime


def _verdict_of(unexpected: BaseException) -> Verdict:
    """Of what went wrong outside the runner: a data set that is not there, a disk that is full, our own mistake."""
    if not isinstance(unexpected, (JobError, RequestError)):
        emit("attempt.surprised", error=repr(unexpected))
    return failed(failure(unexpected))
