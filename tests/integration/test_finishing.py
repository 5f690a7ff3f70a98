"""Jobs in their phase `finishing`: the device is free, and whatever happens to them they end like any other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.fleet.workers import list_workers
from shared.jobs import queries
from shared.jobs.explain import explain
from shared.jobs.states import StopRequest
from tests.support import databases
from tests.support.factories import OWNER, submit_job
from tests.support.finishing import hashes, held, in_phase, state_of
from tests.support.redis import running_redis
from tests.support.stack import CAP, Process, Stack, eventually, gone, open_stack

#: The lease of a worker that is killed is waited for.
LEASE = 5.0
SETTINGS = {
    "kinds": "held_finish",
    "preload": "true",
    "torch_threads": 1,
    "stop_grace_seconds": 1,
    "heartbeat_seconds": 0.2,
    "lease_seconds": LEASE,
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("finishing")
    url = databases.sqlite_database(folder, sqlite_template)
    with running_redis(folder) as redis, open_stack(folder, url, redis.url, **SETTINGS) as stack:
        stack.beat()
        yield stack


@pytest.fixture
def worker(stack: Stack) -> Process:
    """A worker that is the only one; tests end it in their own ways."""
    return next((one for one in stack.processes if one.name == "cpu0" and one.alive()), None) or stack.worker()


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> dict[str, str]:
    """The hashes of the artifacts of a job that nothing happened to."""
    process = stack.worker()
    assert process.alive()
    job_id = submit(stack)
    assert stack.finished(job_id).state == "succeeded"
    return hashes(stack, job_id)


def submit(stack: Stack, hold: str | None = None, **fields: Any) -> str:
    """Submit a training of a few steps with a checkpoint at its end."""
    tags = {"hold": hold} if hold else {}
    training = {"epochs": 1, "batch_size": 719, "seed": 5}
    job_id = submit_job(stack.engine, tags=tags, training=training, checkpoint={"every_steps": 1}, **fields).job_id
    stack.ring(job_id)
    return job_id


def test_the_next_job_runs_while_one_is_finishing(stack: Stack, undisturbed: dict[str, str], worker: Process) -> None:
    first = submit(stack, "first")
    pid = held(stack, first)
    eventually("SQL knows its phase", lambda: in_phase(stack, first))
    second = submit(stack, "first")
    held(stack, second)
    with read(stack.engine) as conn:
        job = queries.get_job(conn, first, None)
        why = explain(job, queries.explain_context(conn, job, LEASE))
        [row] = [row for row in list_workers(conn, LEASE, OWNER) if row["name"] == "cpu0@test"]
    assert "its device is free" in why.sentence
    assert first in row["finishing_job_ids"]
    assert set(stack.runner_pids(worker)) >= {pid}
    stack.go(second)
    assert stack.finished(second).state == "succeeded"
    assert not gone(pid)
    third = submit(stack)
    assert stack.finished(third).state == "succeeded", "the first still is finishing"
    assert stack.job(first).state == "running"
    stack.go(first)
    assert stack.finished(first).state == "succeeded"
    assert hashes(stack, first) == hashes(stack, second) == hashes(stack, third) == undisturbed
    names = {row.path for row in stack.artifacts(first)}
    assert {"model/model.safetensors", "evaluation.json", "curves.png", "predictions.png"} <= names
    assert any(name.startswith("tensorboard/") for name in names)
    task_ids = [attempt.celery_task_id for one in (first, second, third) for attempt in stack.attempts(one)]
    assert len(set(task_ids)) == 3
    assert None not in task_ids
    attempt_dir = stack.root / "jobs" / first / "attempts" / "1"
    assert [path.name for path in attempt_dir.iterdir()] == ["artifacts"], "what was handed over is removed"


def test_a_killed_finisher_crashes_its_attempt_and_the_next_one_leaves_the_same(
    stack: Stack, undisturbed: dict[str, str], worker: Process
) -> None:
    job_id = submit(stack, "first")
    os.kill(held(stack, job_id), signal.SIGKILL)
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["crashed", "succeeded"]
    crashed, again = stack.attempts(job_id)
    assert (crashed.signal, crashed.evidence["phase"]) == (signal.SIGKILL, "finishing")
    assert again.resumed_step == 2
    assert hashes(stack, job_id) == undisturbed
    assert worker.alive()


def test_a_worker_that_is_killed_leaves_its_finishing_job_to_another(
    stack: Stack, undisturbed: dict[str, str], worker: Process
) -> None:
    job_id = submit(stack, "first")
    pid = held(stack, job_id)
    other = stack.worker(1)
    worker.kill()
    assert stack.finished(job_id).state == "succeeded"
    assert [(row.outcome, row.worker) for row in stack.attempts(job_id)] == [
        ("lost", "cpu0@test"),
        ("succeeded", "cpu1@test"),
    ]
    assert hashes(stack, job_id) == undisturbed
    eventually("the runner of the dead worker is gone", lambda: gone(pid))
    other.terminate()


def test_a_finishing_job_can_be_cancelled(stack: Stack, worker: Process) -> None:
    job_id = submit(stack, "always")
    pid = held(stack, job_id)
    stack.ask(job_id, StopRequest.CANCEL)
    assert stack.finished(job_id).state == "cancelled"
    assert stack.artifacts(job_id) == []
    assert gone(pid)


def test_celery_ends_the_job_of_the_task_that_is_named(stack: Stack, worker: Process) -> None:
    first = submit(stack, "always")
    held(stack, first)
    second = submit(stack, "always")
    held(stack, second)
    stack.terminate(first)
    assert stack.finished(first).state == "cancelled"
    assert stack.job(second).state == "running"
    stack.go(second)
    assert stack.finished(second).state == "succeeded"


def test_the_deadline_of_a_finishing_job_holds(stack: Stack, worker: Process) -> None:
    job_id = submit(stack, "always", timeout_seconds=3600)
    pid = held(stack, job_id)
    with write(stack.engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == job_id).values(deadline_at=db_now()))
    assert stack.finished(job_id).state == "failed"
    assert stack.outcomes(job_id) == ["timed_out"]
    assert gone(pid)


def test_the_next_candidate_is_compared_with_the_one_that_was_finishing(stack: Stack, worker: Process) -> None:
    promote = {"alias": "best", "metric": "test_accuracy", "evaluate_on": "digits"}
    first = submit(stack, "first", register_as="finisher", promote=promote)
    held(stack, first)
    second = submit(stack, register_as="finisher", promote=promote)
    stack.at_step(second, 2)
    stack.go(first)
    assert stack.finished(first).state == "succeeded"
    assert stack.finished(second).state == "succeeded"
    assert [promotion(stack, one)["previous"] for one in (first, second)] == [None, 1]


def test_a_draining_worker_waits_for_a_finishing_job(stack: Stack, worker: Process) -> None:
    job_id = submit(stack, "always")
    held(stack, job_id)
    worker.popen.terminate()
    eventually("it drains", lambda: state_of(stack) == "draining")
    stack.go(job_id)
    assert worker.popen.wait(CAP) == 0
    assert (stack.job(job_id).state, stack.outcomes(job_id)) == ("succeeded", ["succeeded"])


def test_a_draining_worker_releases_a_job_that_does_not_finish(
    stack: Stack, undisturbed: dict[str, str], worker: Process
) -> None:
    assert worker.terminate() == 0
    worker = stack.worker(drain_seconds=1)
    job_id = submit(stack, "first", max_retries=0)
    held(stack, job_id)
    assert worker.terminate() == 0
    job = stack.job(job_id)
    assert (job.state, job.retries, stack.outcomes(job_id)) == ("queued", 0, ["drained"])
    stack.worker()
    stack.ring(job_id)
    assert stack.finished(job_id).state == "succeeded"
    assert hashes(stack, job_id) == undisturbed


def promotion(stack: Stack, job_id: str) -> dict[str, Any]:
    [found] = [row.data for row in stack.events(job_id) if row.type == "promotion"]
    return dict(found)
