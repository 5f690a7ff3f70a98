"""What a runner uses and runs on: read from /proc, kept apart from metrics, and nothing secret in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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

TICKS = os.sysconf("SC_CLK_TCK")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def process(proc: Path, seconds: float, pages: int) -> None:
    """A process 7 whose name tries to look like fields."""
    folder = proc / "7"
    folder.mkdir(exist_ok=True)
    fields = ["S", *["1"] * 10, str(round(seconds * TICKS)), "0", *["1"] * 30]
    (folder / "stat").write_text(f"7 (a) b 1 2) {' '.join(fields)}\n")
    (folder / "statm").write_text(f"900 {pages} 1 1 0 1 0\n")


def test_a_sample_says_what_was_used_since_the_one_before(tmp_path: Path) -> None:
    clock = Clock()
    process(tmp_path, seconds=1.0, pages=10)
    sampler = ResourceSampler(7, cpu(), tmp_path, clock)
    process(tmp_path, seconds=4.0, pages=20)
    clock.now += 2
    sampler.sample()
    clock.now += 3
    (sample,) = sampler.take()
    assert sample == SampleRow(3.0, 150.0, 20 * os.sysconf("SC_PAGE_SIZE"), None, None)
    assert sampler.take() == []


def test_a_runner_that_is_gone_leaves_no_sample(tmp_path: Path) -> None:
    sampler = ResourceSampler(7, cpu(), tmp_path, Clock())
    sampler.sample()
    assert sampler.take() == []


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
    place: Any = SimpleNamespace(name="cpu0@here", device=cpu(), settings=SimpleNamespace(torch_threads=3))
    found = run_environment.of(place, {"model": {"framework": "tensorflow"}})
    run_environment._host.cache_clear()
    assert (found["worker"], found["framework"], found["threads"]) == ("cpu0@here", "tensorflow", 3)
    assert {"python", "platform", "cpu", "cores", "libraries", "host"} <= set(found)
    assert "numpy" in found["libraries"]
    assert found["command"] == "python -m worker.main redis://…@host/0"
