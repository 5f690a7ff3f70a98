"""A worker whose device is lost, or which drains, before a runner has started; in this process and without Celery."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine, select

from shared import doorbell
from shared.db.engine import read
from shared.db.schema import attempts, jobs
from shared.settings import Settings
from tests.support.factories import submit_job
from worker.hardware.devices import Device
from worker.runners.runner_pool import RunnerPool
from worker.supervisor.attempt import Attempt
from worker.supervisor.context import WorkerContext
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
