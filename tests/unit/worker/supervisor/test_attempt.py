"""A worker that leaves its device, drains or has no room, before a runner has started; in this process, no Celery."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine, select

from shared import doorbell
from shared.db.engine import read
from shared.db.schema import attempts, jobs
from shared.jobs.states import AttemptOutcome
from shared.settings import Settings
from tests.support.factories import submit_job
from worker.hardware import disk
from worker.hardware.devices import Device
from worker.runners.messages import Assignment
from worker.runners.runner_pool import RunnerPool
from worker.supervisor.attempt import Attempt
from worker.supervisor.context import WorkerContext
from worker.supervisor.outcomes import Fail
from worker.supervisor.supervisor import Supervisor


class Pool:
    """The runners of a GPU; none may be started."""

    slot = None

    def __init__(self) -> None:
        self.installed, self.unusable = ["torch"], dict[str, str]()

    @property
    def frameworks(self) -> frozenset[str]:
        return frozenset(self.installed) - self.unusable.keys()

    def idle(self) -> None:
        """Make no spare."""

    def fork_next(self) -> None:
        """Make none either."""


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def supervisor(sqlite_engine: Engine, tmp_path: Path, pool: Pool) -> Supervisor:
    device = Device("gpu", 0, "NVIDIA Test", "GPU-1")
    settings = Settings(data_dir=tmp_path)
    return Supervisor(WorkerContext("gpu0@test", device, sqlite_engine, settings, cast(RunnerPool, pool)))


@pytest.mark.parametrize("is_draining", [True, False])
def test_a_doorbell_that_a_leaving_worker_has_heard_is_rung_again(
    sqlite_engine: Engine, supervisor: Supervisor, pool: Pool, is_draining: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[tuple[str, str]] = []
    monkeypatch.setattr(doorbell, "ring_later", lambda device, job_id: rung.append((device, job_id)))
    if is_draining:
        supervisor.drain()
    else:
        pool.unusable = {"torch": "GPU is lost"}
    job_id = submit_job(sqlite_engine).job_id
    supervisor.run_one(None)
    assert rung == [("auto", job_id)]
    with read(sqlite_engine) as conn:
        assert conn.execute(select(jobs.c.state)).scalar_one() == "queued"


def test_a_worker_whose_disk_is_full_leaves_jobs_to_others(
    sqlite_engine: Engine, supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    rung: list[tuple[str, str]] = []
    monkeypatch.setattr(disk, "free_bytes", lambda folder: asked.append(folder) or 0)
    monkeypatch.setattr(doorbell, "ring_later", lambda device, job_id: rung.append((device, job_id)))
    job_id = submit_job(sqlite_engine).job_id
    left: list[str | None] = []
    supervisor.disk.on_change = lambda: left.append(supervisor.disk.full_because)
    supervisor.run_one(None)
    assert asked == [tmp_path / "storage"]
    assert rung == [("auto", job_id)], "the doorbell is for another worker"
    assert left, "it is told, so that the worker leaves its queues and hears no further one"
    with read(sqlite_engine) as conn:
        assert conn.execute(select(jobs.c.state)).scalar_one() == "queued"
        assert conn.execute(select(attempts)).all() == []


def test_a_job_whose_device_is_lost_while_its_inputs_are_fetched_is_not_charged(
    sqlite_engine: Engine, supervisor: Supervisor, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assign(attempt: Attempt) -> Any:
        pool.unusable = {"torch": "GPU is lost"}
        return SimpleNamespace(part="device")

    monkeypatch.setattr(Attempt, "assign", assign)
    submit_job(sqlite_engine, max_retries=0)
    supervisor.run_one(None)
    with read(sqlite_engine) as conn:
        job = conn.execute(select(jobs)).one()
        attempt = conn.execute(select(attempts)).one()
    assert (job.state, job.retries, job.lost_streak) == ("queued", 0, 0)
    assert (attempt.outcome, attempt.error["type"]) == ("device_failed", "device_failed")
    assert "GPU is lost" in attempt.error["message"]


@pytest.mark.parametrize("problem", ["GPU-2: GPU is lost", None])
def test_a_gang_whose_second_device_fails_is_not_charged(problem: str | None) -> None:
    tried: list[list[str]] = []

    def try_peers(framework: str, device_ids: list[str]) -> str | None:
        tried.append(device_ids)
        return problem

    health = SimpleNamespace(try_again=lambda framework: None, try_peers=try_peers)
    attempt = SimpleNamespace(context=SimpleNamespace(health=health), _framework=lambda spec: "torch")
    crashed = Fail(AttemptOutcome.CRASHED, {"type": "crashed", "message": "a rank died", "retryable": True})
    assignment = SimpleNamespace(spec={}, devices=["GPU-1", "GPU-2"])
    found = Attempt.check_device(cast(Attempt, attempt), crashed, cast(Assignment, assignment))
    assert tried == [["GPU-2"]]
    assert isinstance(found, Fail)
    if problem is None:
        assert found is crashed
    else:
        assert found.outcome is AttemptOutcome.DEVICE_FAILED
        assert found.error["message"] == "the device failed: GPU-2: GPU is lost; the attempt ended: a rank died"
