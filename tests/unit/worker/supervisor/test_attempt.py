"""An attempt whose device is lost before its runner has started, in this process and without Celery."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, select

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


def test_a_job_whose_device_is_lost_while_its_inputs_are_fetched_is_not_charged(
    sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runners = Pool()

    def assign(attempt: Attempt) -> Any:
        runners.unusable = {"torch": "GPU is lost"}

    monkeypatch.setattr(Attempt, "assign", assign)
    submit_job(sqlite_engine, max_retries=0)
    device = Device("gpu", 0, "NVIDIA Test", "GPU-1")
    settings = Settings(data_dir=tmp_path)
    Supervisor(WorkerContext("gpu0@test", device, sqlite_engine, settings, cast(RunnerPool, runners))).run_one(None)
    with read(sqlite_engine) as conn:
        job = conn.execute(select(jobs)).one()
        attempt = conn.execute(select(attempts)).one()
    assert (job.state, job.retries, job.lost_streak) == ("queued", 0, 0)
    assert (attempt.outcome, attempt.error["type"]) == ("device_failed", "device_failed")
    assert "GPU is lost" in attempt.error["message"]
