"""Workers of GPUs that are not there: real worker, supervisor, claim and forkserver; pretended NVML and frameworks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from shared.db.engine import read
from shared.db.schema import workers
from shared.jobs import queries
from shared.jobs.explain import Why, explain
from tests.support import databases
from tests.support.gpus import Host, card, instance
from tests.support.redis import running_redis
from tests.support.stack import Process, Stack, eventually, open_stack

LEASE = 300.0
TENSORFLOW = {"family": "cnn", "preset": "mnist-1conv-linear", "framework": "tensorflow"}


class GpuStack:
    """A stack on a host with GPUs."""

    def __init__(self, stack: Stack, host: Host) -> None:
        self.stack, self.host = stack, host

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """Start workers with arguments of `nightshift worker`; `environment` goes beside the settings."""
        for variable, value in environment.items():
            os.environ[variable] = value
        try:
            return self.stack.start(name, "worker.main", *arguments, kinds="", packages=self.host.pythonpath)
        finally:
            for variable in environment:
                del os.environ[variable]

    def worker(self, index: int = 0) -> Process:
        """Start the worker of a GPU and wait until it has told its state."""
        process = self.start(f"gpu{index}", "--device", "gpu", "--index", str(index))
        eventually(
            f"it is there (see {process.log})", lambda: self.row(f"gpu{index}", process.pid) or self._fail(process)
        )
        return process

    def _fail(self, process: Process) -> bool:
        assert process.alive(), process.log.read_text()[-3000:]
        return False

    def row(self, name: str, pid: int | None = None) -> Any:
        """Return the row of a worker that is not offline."""
        mine = workers.c.name == f"{name}@test"
        if pid is not None:
            mine = mine & (workers.c.pid == pid)
        with read(self.stack.engine) as conn:
            return conn.execute(select(workers).where(mine, workers.c.state != "offline")).one_or_none()

    def in_state(self, name: str, state: str) -> Any:
        def found() -> Any:
            row = self.row(name)
            return row if row is not None and row.state == state else None

        return eventually(f"{name} is {state}", found)

    def submit(self, probe: str, **fields: Any) -> str:
        """Submit a job that requires a GPU."""
        job_id = self.stack.submit(probe, ring=False, resources={"device": "gpu"}, **fields)
        self.stack.ring(job_id, "gpu")
        return job_id

    def why(self, job_id: str) -> Why:
        with read(self.stack.engine) as conn:
            job = queries.get_job(conn, job_id, None)
            return explain(job, queries.explain_context(conn, job, LEASE))


@pytest.fixture
def open_host(tmp_path: Path, sqlite_template: Path) -> Iterator[Callable[..., GpuStack]]:
    url = databases.sqlite_database(tmp_path, sqlite_template)
    settings = {
        "lease_seconds": LEASE,
        "heartbeat_seconds": 0.2,
        "device_retry_seconds": 0.2,
        "frameworks": "torch,tensorflow",
    }
    with running_redis(tmp_path) as redis, open_stack(tmp_path, url, redis.url, **settings) as stack:

        def opened(*cards: dict[str, Any]) -> GpuStack:
            return GpuStack(stack, Host(tmp_path, *cards))

        yield opened


def test_a_framework_that_sees_no_gpu_is_not_advertised_and_takes_no_job(open_host: Callable[..., GpuStack]) -> None:
    gpus = open_host(card("GPU-1"))
    gpus.host.breaks("tensorflow", "it finds no GPU")
    process = gpus.worker()
    row = gpus.in_state("gpu0", "online")
    assert (row.frameworks, row.unusable, row.device_uuid) == (["torch"], {"tensorflow": "it finds no GPU"}, "GPU-1")
    assert len(gpus.stack.forkservers(process)) == 1, "that of the other framework ended after its test"
    theirs = gpus.stack.submit("train", steps=3, model=TENSORFLOW)
    ours = gpus.submit("train", steps=3)
    assert gpus.stack.finished(ours).state == "succeeded"
    job = gpus.stack.job(theirs)
    assert (job.state, job.fence) == ("queued", 0), "a worker of the CPU could run it"
    assert "on gpu0@test tensorflow does not work: it finds no GPU" in gpus.why(theirs).sentence


@pytest.mark.parametrize("reason", ["this build has no CUDA", "dies"])
def test_a_device_on_which_nothing_works_is_left_and_taken_again(
    open_host: Callable[..., GpuStack], reason: str
) -> None:
    gpus = open_host(card("GPU-1"))
    for framework in ("torch", "tensorflow"):
        gpus.host.breaks(framework, reason)
    process = gpus.worker()
    row = gpus.in_state("gpu0", "device_failed")
    assert row.frameworks == []
    assert ("SIGABRT" if reason == "dies" else reason) in row.left_because
    job_id = gpus.stack.submit("train", steps=3)
    assert [reason.code for reason in gpus.why(job_id).reasons] == ["device_failed"]
    gpus.stack.worker()
    assert gpus.stack.finished(job_id).worker == "cpu0@test", "the doorbell was left to others"
    required = gpus.submit("train", steps=3)
    gpus.host.breaks("torch", None)
    row = gpus.in_state("gpu0", "online")
    assert (row.frameworks, row.left_because) == (["torch"], None)
    gpus.stack.ring(required, "gpu")
    assert gpus.stack.finished(required).worker == "gpu0@test"
    assert process.alive()


@pytest.mark.parametrize("ending", ["device_fault", "device_abort"])
def test_a_device_that_fails_under_a_job_is_left_and_the_job_is_not_charged(
    open_host: Callable[..., GpuStack], ending: str
) -> None:
    gpus = open_host(card("GPU-1"), card("GPU-2"))
    gpus.worker(0)
    gpus.in_state("gpu0", "online")
    gpus.host.breaks("torch", "CUDA error: unspecified launch failure", "GPU-1")
    gpus.host.breaks("tensorflow", "CUDA error: unspecified launch failure", "GPU-1")
    job_id = gpus.submit(ending, max_retries=0)
    assert gpus.in_state("gpu0", "device_failed").left_because == "CUDA error: unspecified launch failure"
    job = eventually("it is back", lambda: row if (row := gpus.stack.job(job_id)).state == "queued" else None)
    assert (job.retries, job.lost_streak) == (0, 0)
    [attempt] = gpus.stack.attempts(job_id)
    assert (attempt.outcome, attempt.error["type"]) == ("device_failed", "device_failed")
    assert "the device failed: CUDA error: unspecified launch failure; the attempt ended:" in attempt.error["message"]
    gpus.worker(1)
    gpus.stack.ring(job_id, "gpu")
    assert gpus.stack.finished(job_id).worker == "gpu1@test"


def test_a_fault_on_a_device_that_works_is_typed_and_counts_against_the_job(
    open_host: Callable[..., GpuStack],
) -> None:
    gpus = open_host(card("GPU-1"))
    gpus.worker()
    gpus.in_state("gpu0", "online")
    job_id = gpus.submit("device_fault", max_retries=0)
    eventually("it failed", lambda: any(gpus.stack.outcomes(job_id)))
    first = gpus.stack.attempts(job_id)[0]
    assert (first.outcome, first.error["type"]) == ("crashed", "device_failed")
    job = gpus.stack.job(job_id)
    assert (job.retries, job.lost_streak) == (0, 1)
    gpus.stack.ring(job_id, "gpu")
    assert gpus.stack.finished(job_id).state == "succeeded"
    assert gpus.row("gpu0").state == "online"


def test_a_card_lost_while_its_worker_is_idle_is_left(open_host: Callable[..., GpuStack]) -> None:
    gpus = open_host(card("GPU-1"), card("GPU-2"))
    gpus.worker(0)
    gpus.worker(1)
    gpus.host.lose(0)
    assert gpus.in_state("gpu0", "device_failed").left_because == "the NVIDIA driver says: GPU is lost"
    job_id = gpus.stack.submit("train", steps=3)
    assert gpus.stack.finished(job_id).worker == "gpu1@test"
    gpus.host.find(0)
    assert set(gpus.in_state("gpu0", "online").frameworks) == {"torch", "tensorflow"}


def test_any_child_that_ends_is_started_again_and_the_others_go_on(open_host: Callable[..., GpuStack]) -> None:
    """Four cards, one lost: three workers under one process, of which not only the first is watched."""
    gpus = open_host(*(card(f"GPU-{number}") for number in range(4)))
    gpus.host.lose(1)
    parent = gpus.start("all", "--device", "gpu")
    names = ["gpu0", "gpu2", "gpu3"]
    before = {name: gpus.in_state(name, "online").pid for name in names}
    assert gpus.row("gpu1") is None
    assert "GPU 1: GPU is lost" in parent.log.read_text()
    psutil.Process(before["gpu2"]).kill()
    eventually("it is there again", lambda: (row := gpus.row("gpu2")) and row.pid != before["gpu2"])
    gpus.in_state("gpu2", "online")
    assert {name: gpus.row(name).pid for name in ("gpu0", "gpu3")} == {name: before[name] for name in ("gpu0", "gpu3")}
    environment = psutil.Process(before["gpu3"]).environ()
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-3"
    assert int(environment["NIGHTSHIFT_TORCH_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 3)
    assert parent.terminate() == 0
    assert all(gpus.row(name) is None for name in names)


@pytest.mark.parametrize(
    ("visible", "name", "uuid"),
    [("2", "gpu3", "GPU-b2"), ("GPU-b2", "gpu3", "GPU-b2"), ("GPU-b", "gpu3", "GPU-b2"), ("MIG-12", "gpu1", "MIG-12")],
)
def test_a_part_of_the_cards_has_the_names_of_the_host(
    open_host: Callable[..., GpuStack], visible: str, name: str, uuid: str
) -> None:
    gpus = open_host(card("GPU-a0", instances=[instance("MIG-11"), instance("MIG-12")]), card("GPU-a1"), card("GPU-b2"))
    gpus.start(name, CUDA_VISIBLE_DEVICES=visible)
    row = gpus.in_state(name, "online")
    assert (row.device, row.device_uuid) == ("gpu", uuid)
    usage = eventually("it has told its usage", lambda: gpus.row(name).usage)
    assert usage["memory_used_bytes"] == 1_000_000_000
    assert usage["busy_percent"] == (None if uuid.startswith("MIG") else 97.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"CUDA_VISIBLE_DEVICES": "GPU-x"}, "'GPU-x' fits no GPU of this host"),
        ({"NIGHTSHIFT_RUNNER_MEMORY_LIMIT_BYTES": "2000000000"}, "address space"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(
    open_host: Callable[..., GpuStack], settings: dict[str, str], words: str
) -> None:
    process = open_host(card("GPU-1")).start("gpu0", **settings)
    assert process.popen.wait(120) == 2
    assert words in process.log.read_text()


def test_a_worker_for_required_jobs_leaves_others_to_the_gpu(open_host: Callable[..., GpuStack]) -> None:
    gpus = open_host(card("GPU-1"))
    gpus.start("cpu0", "--device", "cpu", "--required-only")
    assert gpus.in_state("cpu0", "online").takes_auto is False
    any_device = gpus.stack.submit("train", steps=3)
    required = gpus.stack.submit("train", steps=3, resources={"device": "cpu"}, ring=False)
    gpus.stack.beat()
    assert gpus.stack.finished(required).worker == "cpu0@test"
    assert gpus.stack.job(any_device).state == "queued"
    gpus.worker()
    assert gpus.stack.finished(any_device).worker == "gpu0@test"
