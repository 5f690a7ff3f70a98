"""A worker loads a framework when a job needs it, shows the wait, and lets it go when it was idle for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.db.engine import read
from shared.jobs import queries
from shared.jobs.explain import explain
from shared.jobs.explain.values import Reason
from shared.jobs.states import StopRequest
from shared.settings import Settings
from tests.support.paths import ROOT
from tests.support.redis import running_redis
from tests.support.stack import Process, Stack, eventually, gone, open_stack
from worker.maintenance import deadline_enforcer

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

LEASE = 300.0
TENSORFLOW = {"family": "cnn", "preset": "mnist-1conv-linear", "framework": "tensorflow"}
#: Lets jobs be probes, and a forkserver import nothing before the file `open` lies beside this one.
CUSTOMIZE = """
import os, sys, time

if "worker.runners.forkserver" in sys.orig_argv:
    from tests.support.takeover import take_over

    take_over("tests.support.probe")
    gate, worker = os.path.join(os.path.dirname(__file__), "open"), os.getppid()
    while not os.path.exists(gate) and os.getppid() == worker:
        time.sleep(0.01)
"""


@pytest.fixture
def open_worker(tmp_path: Path, sqlite_url: str) -> Iterator[Callable[..., tuple[Stack, Process]]]:
    settings = {"lease_seconds": LEASE, "heartbeat_seconds": 0.2, "frameworks": "torch,tensorflow"}
    with running_redis(tmp_path) as redis, open_stack(tmp_path, sqlite_url, redis.url, **settings) as stack:
        yield lambda **more: (stack, stack.worker(**more))


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return the file that lets forkservers start; its folder is for PYTHONPATH."""
    folder = tmp_path / "gate"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CUSTOMIZE)
    return folder / "open"


@pytest.fixture
def cold(open_worker: Callable[..., tuple[Stack, Process]], gate: Path) -> tuple[Stack, Process]:
    """A worker whose forkservers cannot start before the gate is opened."""
    packages = os.pathsep.join([str(gate.parent), str(ROOT)])
    return open_worker(kinds="", packages=packages, warm_at_start="false")


def waiting(stack: Stack, **fields: Any) -> str:
    """Submit a job, and return its id once it waits for its framework."""
    job_id = stack.submit("train", steps=3, **fields)
    eventually("it says so", lambda: any("loaded torch" in message for _, message in stack.logs(job_id)))
    assert stack.job(job_id).progress["phase"] == "framework"
    return job_id


def count(stack: Stack, worker: Process, number: int) -> list[psutil.Process]:
    """Wait until a worker has so many forkservers, and return them."""

    def found() -> list[psutil.Process] | None:
        forkservers = stack.forkservers(worker)
        return forkservers or [] if len(forkservers) == number else None

    eventually(f"there are {number} forkservers", lambda: found() is not None)
    return stack.forkservers(worker)


def test_a_framework_is_loaded_for_its_first_job_and_stays_for_the_next(
    open_worker: Callable[..., tuple[Stack, Process]],
) -> None:
    stack, worker = open_worker()
    [torch] = count(stack, worker, 1)
    theirs = stack.submit("train", steps=3, model=TENSORFLOW)
    assert stack.finished(theirs).state == "succeeded"
    assert ("info", "the attempt waits until the worker has loaded tensorflow") in stack.logs(theirs)
    both = count(stack, worker, 2)
    assert torch in both
    for model in ({}, {"model": TENSORFLOW}):
        again = stack.submit("train", steps=3, **model)
        assert stack.finished(again).state == "succeeded"
        assert not any("loaded" in message for _, message in stack.logs(again))
    assert stack.forkservers(worker) == both


def test_an_idle_framework_goes_and_the_next_job_brings_it_back(
    open_worker: Callable[..., tuple[Stack, Process]],
) -> None:
    stack, worker = open_worker(forkserver_idle_seconds=0.3)
    for fields in ({}, {"model": TENSORFLOW}, {}):
        job = stack.finished(stack.submit("train", steps=3, **fields))
        assert (job.state, job.retries) == ("succeeded", 0), job.error
        count(stack, worker, 0)
    assert worker.alive()


def test_without_warming_at_the_start_no_framework_is_loaded_before_a_job(
    cold: tuple[Stack, Process], gate: Path
) -> None:
    stack, worker = cold
    assert stack.forkservers(worker) == []
    job_id = waiting(stack)
    assert len(stack.forkservers(worker)) == 1
    assert "waiting until its worker has loaded the framework" in why(stack, job_id)[0].clause
    gate.touch()
    assert stack.finished(job_id).state == "succeeded"


def test_a_forkserver_killed_while_a_job_waits_for_it_costs_the_job_nothing(
    cold: tuple[Stack, Process], gate: Path
) -> None:
    stack, worker = cold
    job_id = waiting(stack)
    first = stack.forkserver(worker)
    first.kill()
    eventually("it is replaced", lambda: [p for p in stack.forkservers(worker) if p != first])
    gate.touch()
    assert stack.finished(job_id).state == "succeeded"
    assert stack.outcomes(job_id) == ["succeeded"]


def test_a_worker_drains_while_a_job_waits_for_its_framework(cold: tuple[Stack, Process]) -> None:
    stack, worker = cold
    job_id = waiting(stack)
    forkserver = stack.forkserver(worker)
    assert worker.terminate() == 0
    job = stack.job(job_id)
    assert (job.state, job.retries, stack.outcomes(job_id)) == ("queued", 0, ["drained"])
    assert gone(forkserver)


def test_a_job_is_cancelled_while_it_waits_for_its_framework(cold: tuple[Stack, Process], gate: Path) -> None:
    stack, _ = cold
    job_id = waiting(stack)
    stack.ask(job_id, StopRequest.CANCEL)
    assert stack.finished(job_id).state == "cancelled"
    gate.touch()
    assert stack.finished(stack.submit("train", steps=3)).state == "succeeded", "the framework is loaded for the next"


def test_a_deadline_ends_a_job_that_waits_for_its_framework(cold: tuple[Stack, Process], gate: Path) -> None:
    stack, _ = cold
    job_id = waiting(stack, timeout_seconds=1)
    settings = Settings(data_dir=stack.folder / "data", stop_grace_seconds=0.1)
    eventually("it is over", lambda: deadline_enforcer.run_once(stack.engine, settings)["timed_out"])
    assert stack.finished(job_id).error["type"] == "timed_out"
    gate.touch()
    assert stack.finished(stack.submit("train", steps=3)).state == "succeeded"


#: Lets jobs be probes, and the import of the runner fail before the file `open` lies beside this one.
FAILING = """
import os, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "worker.runners.runner" and not os.path.exists(os.path.join(os.path.dirname(__file__), "open")):
            raise FileNotFoundError("No usable temporary directory found")

if "worker.runners.forkserver" in sys.orig_argv:
    from tests.support.takeover import take_over

    take_over("tests.support.probe")
    sys.meta_path.insert(0, Finder())
"""


def test_jobs_wait_uncharged_while_a_framework_cannot_be_loaded(
    open_worker: Callable[..., tuple[Stack, Process]], gate: Path
) -> None:
    (gate.parent / "sitecustomize.py").write_text(FAILING)
    packages = os.pathsep.join([str(gate.parent), str(ROOT)])
    stack, _ = open_worker(kinds="", packages=packages, warm_at_start="false", frameworks="torch")
    job_id = stack.submit("train", steps=3)
    reason = eventually("why says so", lambda: next((r for r in why(stack, job_id) if r.code == "device_failed"), None))
    assert "it cannot be loaded: FileNotFoundError: No usable temporary directory found" in reason.clause
    gate.touch()
    stack.beat()  # it rings for the jobs that are due
    job = stack.finished(job_id)
    assert (job.state, job.retries, job.lost_streak) == ("succeeded", 0, 0)
    assert set(stack.outcomes(job_id)) <= {"drained", "succeeded"}


def why(stack: Stack, job_id: str) -> list[Reason]:
    """Return the reasons of the job's state."""
    with read(stack.engine) as conn:
        return explain(job := queries.get_job(conn, job_id, None), queries.explain_context(conn, job, LEASE)).reasons
