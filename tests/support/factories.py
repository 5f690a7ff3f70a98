"""Jobs in any state, made by the transitions, so that no test starts from an impossible row."""

from __future__ import annotations

import secrets
import string
from typing import Any

from sqlalchemy import Engine, update

from nightshift.states import JobState
from shared.clock import db_now, iso
from shared.db.engine import write
from shared.db.schema import jobs
from shared.fleet import ledger, workers
from shared.fleet.workers import WorkerInfo
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import (
    CheckpointRecord,
    Claimed,
    Claimer,
    Lease,
    NewJob,
    Submitted,
)
from shared.specs.jobs import job_spec_adapter

OWNER = "owner-1"
LEASE_SECONDS = 30.0
ERROR = {"type": "bad_data", "message": "made to fail", "retryable": False}


def make_spec(**fields: Any) -> Any:
    """Return the spec of a small train job; `fields` override its top level."""
    model = {"family": "cnn", "preset": "mnist-1conv-linear"}
    training = {"epochs": 1, "batch_size": 128}
    body = {"kind": "train", "model": model, "dataset": "digits", "training": training, **fields}
    return job_spec_adapter.validate_python(body)


def make_claimer(worker: str = "cpu0@test", device: str = "cpu", **fields: Any) -> Claimer:
    frameworks = fields.pop("frameworks", frozenset({"torch", "tensorflow"}))
    return Claimer(worker, device, device, frameworks, fields.pop("celery_task_id", secrets.token_hex(8)))


def register_device(engine: Engine, name: str = "cpu0@test", **facts: Any) -> str:
    """Register a worker with its device, online, and return its name; `facts` are those of WorkerInfo."""
    device, _, host = name.partition("@")
    known = {"device_name": f"Test {device.rstrip(string.digits)}", "frameworks": ["tensorflow", "torch"], **facts}
    worker = WorkerInfo(name, host, 1, device.rstrip(string.digits), **known)
    with write(engine) as conn:
        workers.register(conn, worker)
        ledger.register(conn, worker)
    return name


def submit_job(engine: Engine, *, owner_id: str = OWNER, **fields: Any) -> Submitted:
    """Submit a job. `fields` are those of NewJob and of the spec."""
    new: dict[str, Any] = {
        name: fields.pop(name) for name in ("body_hash", "idempotency_key", "pinned") if name in fields
    }
    if isinstance(fields.get("run_at"), float):
        fields["run_at"] = iso(fields["run_at"])
    with write(engine) as conn:
        return transitions.submit(conn, NewJob(owner_id=owner_id, spec=make_spec(**fields), **new))


def claim_job(engine: Engine, claimer: Claimer | None = None, lease_seconds: float = LEASE_SECONDS) -> Claimed:
    """Claim the next job; there must be one."""
    with write(engine) as conn:
        claimed = transitions.claim(conn, claimer or make_claimer(), lease_seconds)
    assert claimed is not None, "there is no job to claim"
    return claimed


def running_job(engine: Engine, **fields: Any) -> Lease:
    """Submit a job, claim it and return its lease."""
    submitted = submit_job(engine, priority=9, **fields)
    claimed = claim_job(engine)
    assert claimed.lease.job_id == submitted.job_id, "another job was waiting: submit fewer, or claim it first"
    return claimed.lease


def job_in_state(engine: Engine, state: JobState, **fields: Any) -> str:
    """Bring a new job to `state` by transitions and return its id."""
    match state:
        case JobState.WAITING:
            other = submit_job(engine, run_at=4e9)
            return submit_job(engine, after=[other.job_id], **fields).job_id
        case JobState.QUEUED:
            return submit_job(engine, **fields).job_id
        case JobState.PAUSED | JobState.CANCELLED:
            job_id = submit_job(engine, **fields).job_id
            request = StopRequest.PAUSE if state is JobState.PAUSED else StopRequest.CANCEL
            with write(engine) as conn:
                transitions.request_stop(conn, job_id, request, OWNER)
            return job_id
    lease = running_job(engine, **fields)
    with write(engine) as conn:
        if state is JobState.SUCCEEDED:
            transitions.succeed(conn, lease, result={"metrics": {"test_accuracy": 0.98}}, artifacts=[])
        elif state is JobState.FAILED:
            transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
    return lease.job_id


def make_checkpoint(step: int = 10, **fields: Any) -> CheckpointRecord:
    sha256 = secrets.token_hex(32)
    row = {"id": secrets.token_hex(8), "step": step, "epoch": 0, "sha256": sha256, "size_bytes": 1000}
    return CheckpointRecord(**{**row, "path": f"checkpoints/{step}-{sha256[:12]}", **fields})


def commit_checkpoint(engine: Engine, lease: Lease, **fields: Any) -> CheckpointRecord:
    checkpoint = make_checkpoint(**fields)
    with write(engine) as conn:
        transitions.commit_checkpoint(conn, lease, checkpoint)
    return checkpoint


def expire_lease(engine: Engine, job_id: str) -> None:
    """Expire the lease, as if the worker had not renewed it."""
    with write(engine) as conn:
        conn.execute(
            update(jobs).where(jobs.c.id == job_id, jobs.c.state == "running").values(lease_until=db_now() - 1)
        )


def make_due(engine: Engine, job_id: str) -> None:
    """Make a job due, as if its back-off had passed."""
    let_wait(engine, job_id, 1)


def let_wait(engine: Engine, job_id: str, seconds: float) -> None:
    """Make a job due since `seconds` ago."""
    with write(engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == job_id).values(run_at=db_now() - seconds))
