"""The health check of a container, whose workers may have left their devices."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from shared.db.engine import write
from shared.fleet.workers import WorkerInfo, heartbeat, register
from shared.settings import Settings
from worker.hardware import health


@pytest.fixture
def problem(sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(health, "get_engine", lambda: sqlite_engine)
    monkeypatch.setattr(health, "get_settings", lambda: Settings(host_name="here"))
    return lambda: health.problem([])


def worker(engine: Engine, name: str, left_because: str | None = None) -> None:
    with write(engine) as conn:
        register(conn, WorkerInfo(f"{name}@here", "here", 1, "gpu", "NVIDIA Test"))
        heartbeat(conn, f"{name}@here", left_because=left_because)


def test_a_container_is_unhealthy_only_if_all_of_its_workers_left_their_devices(
    sqlite_engine: Engine, problem: object
) -> None:
    assert callable(problem)
    assert "no worker of host here" in problem()
    worker(sqlite_engine, "gpu0", "GPU is lost")
    assert problem() == "gpu0@here left its device: GPU is lost"
    worker(sqlite_engine, "gpu1")
    assert problem() is None, "a restart would stop the one that works"
    worker(sqlite_engine, "gpu1", "GPU is lost too")
    assert problem() == "gpu0@here left its device: GPU is lost; gpu1@here left its device: GPU is lost too"
