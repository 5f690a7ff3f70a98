"""Batch inferences whose predictions are joined while the next job has the device: killed, stopped, damaged, full."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update

from shared.clock import db_now
from shared.db.engine import read, write
from shared.db.schema import checkpoints, jobs
from shared.jobs import transitions
from shared.jobs.states import StopRequest
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support import databases
from tests.support.factories import OWNER
from tests.support.finishing import hashes, held, in_phase, state_of
from tests.support.redis import running_redis
from tests.support.stack import CAP, Process, Stack, eventually, gone, open_stack

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = 1797
#: The lease of a worker that is killed is waited for.
SETTINGS = {
    "kinds": "held_finish",
    "preload": "true",
    "torch_threads": 1,
    "stop_grace_seconds": 1,
    "heartbeat_seconds": 0.2,
    "lease_seconds": 5.0,
}
MODEL = {"family": "cnn", "image_size": [8, 8], "filters": [4], "pool": [True], "kernel_size": 3, "dense": [8]}
TRAINING = {"kind": "train", "model": MODEL, "dataset": "digits", "training": {"epochs": 1, "max_steps": 12}}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    template = request.getfixturevalue(f"{request.param}_template")
    if request.param == "sqlite":
        yield databases.sqlite_database(tmp_path_factory.mktemp("database"), template)
    else:
        with databases.emptied_database(request.getfixturevalue("postgres_server"), template) as url:
            yield url


class Inferences:
    """A stack with a trained model, and its inferences."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.trained = self.submit(TRAINING)
        worker = stack.worker()
        assert worker.alive()
        assert stack.finished(self.trained).state == "succeeded"
        whole = self.infer()
        assert stack.finished(whole).state == "succeeded"
        #: What an inference leaves that nothing happened to.
        self.undisturbed, self.lines = hashes(stack, whole), self.predictions(whole)

    def submit(self, body: dict[str, Any]) -> str:
        with write(self.stack.engine) as conn:
            job_id = transitions.submit(conn, NewJob(OWNER, job_spec_adapter.validate_python(body))).job_id
        self.stack.ring(job_id)
        return job_id

    def infer(self, hold: str | None = None, fault: str | None = None, **fields: Any) -> str:
        tags = {name: value for name, value in {"hold": hold, "fault": fault}.items() if value}
        how = {"batch_size": 10, "engine": "framework", "output": "jsonl"}
        body = {"kind": "batch_infer", "model_ref": f"job:{self.trained}", "dataset": "digits", "inference": how}
        return self.submit({**body, "tags": tags, **fields})

    def predictions(self, job_id: str) -> list[bytes]:
        [row] = self.stack.artifacts(job_id)
        return (self.stack.root / row.stored_as).read_bytes().splitlines()

    def left_the_same(self, job_id: str) -> None:
        """Check that a job succeeds with the same files, and has computed each chunk once."""
        job = self.stack.finished(job_id)
        assert job.state == "succeeded", (job.error, self.stack.logs(job_id))
        assert hashes(self.stack, job_id) == self.undisturbed
        assert job.result["metrics"] == {"rows": float(ROWS), "errors": 0.0}
        ready = [point.step for point in self.stack.checkpoints(job_id) if point.state == "ready"]
        assert len(ready) == len(set(ready)) == 90


@pytest.fixture(scope="module")
def inferences(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inferences]:
    folder = tmp_path_factory.mktemp("finishing-inference")
    with running_redis(folder) as redis, open_stack(folder, url, redis.url, **SETTINGS) as stack:
        stack.beat()
        yield Inferences(stack)


@pytest.fixture
def stack(inferences: Inferences) -> Stack:
    return inferences.stack


@pytest.fixture
def worker(stack: Stack) -> Process:
    """A worker that is the only one; tests end it in their own ways."""
    return next((one for one in stack.processes if one.name == "cpu0" and one.alive()), None) or stack.worker()


def test_the_next_job_runs_while_predictions_are_joined(inferences: Inferences, stack: Stack, worker: Process) -> None:
    first = inferences.infer("first")
    pid = held(stack, first)
    eventually("SQL knows its phase", lambda: in_phase(stack, first))
    assert stack.held() == [None], "no job has the device"
    assert pid in stack.runner_pids(worker)
    inferences.left_the_same(inferences.infer())
    assert not gone(pid)
    assert stack.artifacts(first) == []
    stack.go(first)
    inferences.left_the_same(first)
    assert stack.outcomes(first) == ["succeeded"]
    attempt_dir = stack.root / "jobs" / first / "attempts" / "1"
    assert [path.name for path in attempt_dir.iterdir()] == ["artifacts"], "what was handed over is removed"


def test_a_killed_finisher_crashes_its_attempt_and_no_row_is_computed_again(
    inferences: Inferences, stack: Stack, worker: Process
) -> None:
    job_id = inferences.infer("first")
    os.kill(held(stack, job_id), signal.SIGKILL)
    inferences.left_the_same(job_id)
    assert stack.outcomes(job_id) == ["crashed", "succeeded"]
    crashed, again = stack.attempts(job_id)
    assert (crashed.signal, crashed.evidence["phase"], again.resumed_step) == (signal.SIGKILL, "finishing", ROWS)
    assert worker.alive()


@pytest.mark.parametrize("fault", ["kill", "enospc"])
def test_a_join_that_is_killed_or_finds_no_space_begins_anew(
    inferences: Inferences, stack: Stack, worker: Process, fault: str
) -> None:
    job_id = inferences.infer(fault=f"part.joining:{fault}@40")
    inferences.left_the_same(job_id)
    assert stack.outcomes(job_id) == ["crashed", "succeeded"]
    assert [row.resumed_step for row in stack.attempts(job_id)] == [None, ROWS]


def test_a_worker_that_is_killed_leaves_its_join_to_another(
    inferences: Inferences, stack: Stack, worker: Process
) -> None:
    job_id = inferences.infer("first")
    pid = held(stack, job_id)
    other = stack.worker(1)
    worker.kill()
    inferences.left_the_same(job_id)
    assert [(row.outcome, row.worker) for row in stack.attempts(job_id)] == [
        ("lost", "cpu0@test"),
        ("succeeded", "cpu1@test"),
    ]
    eventually("the runner of the dead worker is gone", lambda: gone(pid))
    other.terminate()


def test_a_damaged_part_that_the_join_finds_is_computed_again(
    inferences: Inferences, stack: Stack, worker: Process
) -> None:
    job_id = inferences.infer("first", max_retries=0)
    held(stack, job_id)
    eventually("all parts are listed", lambda: len(stack.checkpoints(job_id)) == 90)
    part = stack.checkpoints(job_id)[7]
    rows = stack.root / "jobs" / job_id / part.path / "rows"
    rows.write_bytes(rows.read_bytes()[:-1] + b"!")
    stack.go(job_id)
    inferences.left_the_same(job_id)
    assert stack.outcomes(job_id) == ["drained", "succeeded"]
    assert any(level == "warning" and "is damaged" in message for level, message in stack.logs(job_id))
    with read(stack.engine) as conn:
        assert conn.scalars(select(checkpoints.c.state).where(checkpoints.c.id == part.id)).all() == ["quarantined"]


def test_what_an_early_finish_has_is_joined_without_the_device(
    inferences: Inferences, stack: Stack, worker: Process
) -> None:
    job_id = inferences.infer("first")
    eventually("it has begun", lambda: stack.checkpoints(job_id))
    stack.ask(job_id, StopRequest.FINISH)
    held(stack, job_id)
    stack.go(job_id)
    job = stack.finished(job_id)
    assert (job.state, stack.outcomes(job_id)) == ("succeeded", ["succeeded"])
    lines = inferences.predictions(job_id)
    assert lines == inferences.lines[: len(lines)]
    assert len(lines) == job.result["metrics"]["rows"] > 0


def test_a_join_can_be_cancelled(inferences: Inferences, stack: Stack, worker: Process) -> None:
    job_id = inferences.infer("always")
    pid = held(stack, job_id)
    stack.ask(job_id, StopRequest.CANCEL)
    assert stack.finished(job_id).state == "cancelled"
    assert stack.artifacts(job_id) == []
    assert gone(pid)


def test_celery_ends_the_join_of_the_task_that_is_named(inferences: Inferences, stack: Stack, worker: Process) -> None:
    first, second = inferences.infer("always"), None
    held(stack, first)
    second = inferences.infer("always")
    held(stack, second)
    stack.terminate(first)
    assert stack.finished(first).state == "cancelled"
    assert stack.job(second).state == "running"
    stack.go(second)
    inferences.left_the_same(second)


def test_the_deadline_of_a_join_holds(inferences: Inferences, stack: Stack, worker: Process) -> None:
    job_id = inferences.infer("always", timeout_seconds=3600)
    pid = held(stack, job_id)
    with write(stack.engine) as conn:
        conn.execute(update(jobs).where(jobs.c.id == job_id).values(deadline_at=db_now()))
    assert stack.finished(job_id).state == "failed"
    assert stack.outcomes(job_id) == ["timed_out"]
    assert gone(pid)


def test_a_draining_worker_waits_for_a_join(inferences: Inferences, stack: Stack, worker: Process) -> None:
    job_id = inferences.infer("always")
    held(stack, job_id)
    worker.popen.terminate()
    eventually("it drains", lambda: state_of(stack) == "draining")
    stack.go(job_id)
    assert worker.popen.wait(CAP) == 0
    inferences.left_the_same(job_id)
    assert stack.outcomes(job_id) == ["succeeded"]


def test_a_draining_worker_releases_a_join_that_does_not_end(
    inferences: Inferences, stack: Stack, worker: Process
) -> None:
    assert worker.terminate() == 0
    worker = stack.worker(drain_seconds=1)
    job_id = inferences.infer("first", max_retries=0)
    held(stack, job_id)
    assert worker.terminate() == 0
    job = stack.job(job_id)
    assert (job.state, job.retries, stack.outcomes(job_id)) == ("queued", 0, ["drained"])
    stack.worker()
    stack.ring(job_id)
    inferences.left_the_same(job_id)
