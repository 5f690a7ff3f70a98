"""A write of an attempt fails for good when its runner is done already: the job must not succeed with a gap in its
curves."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

import worker.supervisor.batch
from shared.db.engine import read
from shared.db.schema import attempts, jobs, metrics
from shared.settings import Settings
from tests.support.factories import make_due, submit_job
from tests.support.stack import CAP
from tests.support.takeover import pythonpath
from worker.hardware.devices import cpu
from worker.runners.forkserver_client import ForkserverClient, sanitized_environment
from worker.runners.forkservers import Forkservers
from worker.runners.runner_pool import RunnerPool, RunnerSettings
from worker.supervisor.attempt import Attempt
from worker.supervisor.batch import write_batch
from worker.supervisor.context import WorkerContext
from worker.supervisor.supervisor import Supervisor


@pytest.fixture
def supervisor(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Supervisor]:
    """A worker without Celery, in this process."""
    forkserver = ForkserverClient(
        "torch", ["worker.runners.runner"], sanitized_environment(os.environ, {"PYTHONPATH": pythonpath("probe")})
    )
    forkserver.start()
    runners = RunnerPool(Forkservers({"torch": forkserver}), RunnerSettings("cpu", 1, None), keep_spare=False)
    settings = Settings(data_dir=tmp_path / "data", relay_seconds=0.01)
    yield Supervisor(WorkerContext("cpu0@test", cpu(), sqlite_engine, settings, runners))
    forkserver.close()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The first checkpoint is written after the runner has ended, and fails then. Set when that has happened."""
    ended, broken = threading.Event(), threading.Event()
    watch = Attempt.watch

    def watch_and_set(self: Any, *arguments: Any) -> Any:
        try:
            return watch(self, *arguments)
        finally:
            ended.set()

    def write_late(conn: Any, lease: Any, batch: Any) -> Any:
        if batch.checkpoints and not broken.is_set():
            assert ended.wait(CAP)
            broken.set()
            raise RuntimeError("nobody foresaw this")
        return write_batch(conn, lease, batch)

    monkeypatch.setattr(Attempt, "watch", watch_and_set)
    monkeypatch.setattr(worker.supervisor.batch, "write_batch", write_late)
    return broken


def test_a_job_whose_rows_were_lost_does_not_succeed_without_them(
    sqlite_engine: Engine, supervisor: Supervisor, broken: threading.Event
) -> None:
    job_id = submit_job(sqlite_engine, tags={"probe": "train", "steps": "12", "checkpoint": "4"}).job_id
    supervisor.run_one(None)
    assert broken.is_set()
    make_due(sqlite_engine, job_id)
    supervisor.run_one(None)
    with read(sqlite_engine) as conn:
        assert conn.scalar(select(jobs.c.state).where(jobs.c.id == job_id)) == "succeeded"
        ended = conn.execute(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.fence)).all()
        steps = list(conn.scalars(select(metrics.c.step).where(metrics.c.job_id == job_id).order_by(metrics.c.step)))
    assert [attempt.outcome for attempt in ended] == ["job_error", "succeeded"]
    assert "nobody foresaw this" in ended[0].error["message"]
    assert steps == list(range(1, 13))
