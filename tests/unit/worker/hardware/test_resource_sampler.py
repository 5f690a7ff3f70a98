"""What a runner uses and runs on: kept apart from metrics, and nothing secret in it."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.errors import LeaseLost
from shared.jobs import queries, transitions
from shared.jobs.transitions import Lease, SampleRow
from tests.support.factories import running_job
from worker.hardware import run_environment
from worker.hardware.devices import cpu
from worker.hardware.resource_sampler import ResourceSampler


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Process:
    """A runner as psutil shows it."""

    seconds, memory, gone = 1.0, 10, False

    def cpu_times(self) -> Any:
        return SimpleNamespace(user=self.seconds, system=0.0)

    def memory_info(self) -> Any:
        if self.gone:
            raise psutil.NoSuchProcess(7)
        return SimpleNamespace(rss=self.memory)


def test_a_sample_says_what_was_used_since_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, process = Clock(), Process()
    monkeypatch.setattr(psutil, "Process", lambda pid: process)
    sampler = ResourceSampler(7, cpu(), clock)
    process.seconds, process.memory = 4.0, 20
    clock.now += 2
    sampler.sample()
    clock.now += 3
    assert sampler.take() == [SampleRow(3.0, 150.0, 20, None, None)]
    process.gone = True
    sampler.sample()
    assert sampler.take() == []


def test_this_process_can_be_sampled_and_one_that_is_gone_cannot() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    for pid, samples in ((os.getpid(), 1), (process.pid, 0), (None, 0)):
        sampler = ResourceSampler(pid, cpu(), Clock())
        sampler.sample()
        assert len(sampler.take()) == samples


def test_samples_are_written_under_the_fence_and_are_no_metrics(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.record(conn, lease, samples=[SampleRow(9.0, 99.5, 5_000_000_000), SampleRow(4.0, None, 7, 50.0, 8)])
    stale = Lease(lease.job_id, lease.fence - 1, lease.worker)
    with write(engine) as conn, pytest.raises(LeaseLost):
        transitions.record(conn, stale, samples=[SampleRow(0.0, 1.0, 1)])
    with read(engine) as conn:
        first, second = queries.system_samples(conn, lease.job_id)
        assert queries.metrics(conn, lease.job_id) == []
    assert (first["cpu_percent"], first["memory_bytes"], first["attempt"]) == (99.5, 5_000_000_000, 1)
    assert (second["cpu_percent"], second["gpu_percent"], second["gpu_memory_bytes"]) == (None, 50.0, 8)
    assert first["at"] < second["at"]


def test_an_environment_names_what_decides_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "worker.main", "redis://me:secret@host/0"])
    run_environment._host.cache_clear()
    place: Any = SimpleNamespace(name="cpu0@here", device=cpu(), settings=SimpleNamespace())
    found = run_environment.of(place, {"model": {"framework": "tensorflow"}}, 3)
    run_environment._host.cache_clear()
    assert (found["worker"], found["framework"], found["threads"]) == ("cpu0@here", "tensorflow", 3)
    assert {"python", "platform", "cpu", "cores", "libraries", "host"} <= set(found)
    assert "numpy" in found["libraries"]
    assert found["command"] == "python -m worker.main redis://…@host/0"
