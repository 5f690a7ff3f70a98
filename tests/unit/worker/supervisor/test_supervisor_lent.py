"""A worker whose device a gang of another worker has: it looks at the queue as soon as the gang has left."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import Engine

from shared import doorbell
from shared.db.engine import write
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import Lease
from shared.settings import Settings
from tests.support.factories import claim_job, make_claimer, register_device, submit_job
from tests.support.stack import eventually
from worker.hardware.devices import cpu
from worker.runners.runner_pool import RunnerPool
from worker.supervisor.attempt import Attempt
from worker.supervisor.context import WorkerContext
from worker.supervisor.supervisor import Supervisor

pytestmark = pytest.mark.usefixtures("long_database_timeouts")


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(doorbell, "ring_later", lambda device, job_id: found.append((device, job_id)))
    return found


@pytest.fixture
def supervisor(engine: Engine, tmp_path: Path, rung: list[tuple[str, str]]) -> Supervisor:
    runners = SimpleNamespace(installed=["torch"], frameworks=frozenset({"torch"}), idle=lambda: None)
    register_device(engine, "cpu0@test")
    register_device(engine, "cpu1@test")
    context = WorkerContext("cpu0@test", cpu(), engine, Settings(data_dir=tmp_path), cast(RunnerPool, runners))
    return Supervisor(context)


@pytest.fixture
def gang(engine: Engine, supervisor: Supervisor) -> Lease:
    """The attempt of a gang that the worker's neighbor has claimed."""
    submit_job(engine, resources={"devices": 2, "device": "cpu"})
    return claim_job(engine, make_claimer("cpu1@test")).lease


def hears(supervisor: Supervisor) -> threading.Thread:
    thread = threading.Thread(target=supervisor.run_one, args=(None,))
    thread.start()
    return thread


def test_the_doorbell_is_for_others_until_the_gang_has_left_and_then_its_own(
    engine: Engine, supervisor: Supervisor, gang: Lease, rung: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(Attempt, "run", lambda attempt: ran.append(attempt.lease.job_id))
    job_id = submit_job(engine, resources={"device": "cpu"}).job_id
    thread = hears(supervisor)
    eventually("it is rung on", lambda: rung == [("cpu", job_id)])
    with write(engine) as conn:
        transitions.fail(
            conn, gang, outcome=AttemptOutcome.JOB_ERROR, error={"type": "x", "message": "", "retryable": False}
        )
    thread.join()
    assert ran == [job_id]


def test_a_worker_that_drains_waits_for_no_gang(
    engine: Engine, supervisor: Supervisor, gang: Lease, rung: list[tuple[str, str]]
) -> None:
    submit_job(engine, resources={"device": "cpu"})
    thread = hears(supervisor)
    eventually("it is rung on", lambda: rung)
    supervisor.drain()
    thread.join()
    assert supervisor.job_id is None


def test_a_gang_that_leaves_its_devices_rings_for_the_jobs_that_are_due(
    engine: Engine, supervisor: Supervisor, rung: list[tuple[str, str]]
) -> None:
    job_id = submit_job(engine).job_id
    supervisor.leave_device()
    assert rung == [("auto", job_id)]
