"""A spare runner holds nothing of its device; the lock comes with the assignment, and goes with the runner."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from shared.settings import Settings
from tests.support.paths import ROOT
from tests.support.stack import eventually
from worker.hardware.devices import Device
from worker.runners import runner_pool
from worker.runners.device_lock import DeviceBusy, DeviceLock
from worker.runners.forkserver_client import ForkserverClient, ForkserverUnavailable, sanitized_environment
from worker.runners.forkservers import Forkservers
from worker.runners.messages import Assignment, WarmUp, encode
from worker.runners.runner_pool import Runner, RunnerPool, RunnerSettings

GPU, THREADS = Device("gpu", 0, "NVIDIA Test", "GPU-1"), 2
KIND = """
import os, subprocess, sys, time
from pathlib import Path
from worker.runners.messages import Result

def run(assignment, reporter):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    Path("pids").write_text(f"{os.getpid()} {child}")
    while not Path("go").exists():
        time.sleep(0.01)
    return Result(metrics={})
"""


@pytest.fixture
def slot(tmp_path: Path) -> DeviceLock:
    return DeviceLock.of(GPU, Settings(data_dir=tmp_path))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkserverClient]:
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "holding_kind.py").write_text(KIND)
    (folder / "sitecustomize.py").write_text("from tests.support.takeover import take_over\ntake_over('holding_kind')")
    path = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    client = ForkserverClient("torch", ["worker.runners.runner"], sanitized_environment({**os.environ, **path}, {}))
    client.start()
    yield client
    client.close()


@pytest.fixture
def pool(client: ForkserverClient, slot: DeviceLock) -> Iterator[RunnerPool]:
    pool = RunnerPool(Forkservers({"torch": client}), RunnerSettings("gpu", THREADS, None, slot))
    pool.warm_in_background("torch")
    yield pool
    pool.close()


def begin(runner: Runner, folder: Path) -> list[int]:
    """Give the runner an assignment and return its pid and that of its child."""
    work = folder / "work"
    runner.assign(encode(Assignment(job_id="a" * 16, fence=1, spec={}, job_dir=str(folder), work_dir=str(work))))
    eventually("it has begun", lambda: (work / "pids").exists() and (work / "pids").read_text())
    return [int(pid) for pid in (work / "pids").read_text().split()]


def spare(client: ForkserverClient) -> psutil.Process:
    """Wait for the spare runner of an idle pool."""
    assert client.pid is not None or eventually("the forkserver runs", lambda: client.pid)
    (found,) = eventually("there is a spare", lambda: psutil.Process(client.pid).children())
    return found  # type: ignore[no-any-return]


def is_free(slot: DeviceLock) -> bool:
    try:
        os.close(slot.take())
    except DeviceBusy:
        return False
    return True


def test_a_spare_holds_no_lock_until_it_has_its_assignment(
    pool: RunnerPool, client: ForkserverClient, slot: DeviceLock, tmp_path: Path
) -> None:
    pool.idle()
    waiting = spare(client)
    assert is_free(slot), "another installation may use the device"
    runner = pool.take("torch", lambda: None, slot.take, THREADS)
    assert not is_free(slot)
    assert begin(runner, tmp_path)[0] == waiting.pid
    assert runner.lock is None, "the worker keeps no copy"
    assert not is_free(slot)
    runner.close()
    eventually("the device is free", lambda: is_free(slot))


@pytest.mark.parametrize("threads", [None, 1])
def test_a_spare_with_other_threads_than_a_run_has_is_not_taken(
    pool: RunnerPool, client: ForkserverClient, slot: DeviceLock, threads: int | None
) -> None:
    pool.idle()
    waiting = spare(client)
    runner = pool.take("torch", lambda: None, slot.take, threads)
    assert runner.handle.pid != waiting.pid
    runner.close()


def test_a_child_of_a_runner_holds_the_device_too(pool: RunnerPool, slot: DeviceLock, tmp_path: Path) -> None:
    runner = pool.take("torch", lambda: None, slot.take)
    pids = begin(runner, tmp_path)
    with pytest.raises(DeviceBusy) as busy:
        slot.take()
    assert busy.value.pids == sorted(pids)
    runner.close()
    eventually("the device is free", lambda: is_free(slot))


class Counted(Forkservers):
    """Notes who begins and ends to use a forkserver."""

    def __init__(self, client: ForkserverClient) -> None:
        super().__init__({"torch": client})
        self.used: list[str] = []

    def begin(self, framework: str) -> None:
        self.used.append("begin")
        super().begin(framework)

    def end(self, framework: str, keep: bool = True) -> None:
        self.used.append("end")
        super().end(framework, keep)


def test_a_runner_without_the_device_uses_its_forkserver_until_it_is_closed(
    client: ForkserverClient, slot: DeviceLock
) -> None:
    """Otherwise a forkserver that seems to be idle would end with the runner that finishes a job."""
    forkservers = Counted(client)
    runner = RunnerPool(forkservers, RunnerSettings("gpu", THREADS, None, slot)).take_without_device(
        "torch", lambda: None
    )
    assert is_free(slot)
    assert forkservers.used == ["begin"]
    runner.close()
    assert forkservers.used == ["begin", "end"]


class Asked(Runner):
    """Notes the warm-ups that it is asked for, and sends none."""

    found: ClassVar[list[WarmUp]] = []

    def warm_up(self, asked: WarmUp) -> None:
        self.is_warm = True
        self.found.append(asked)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[WarmUp]:
    """The warm-ups that spares are asked for."""
    monkeypatch.setattr(runner_pool, "Runner", Asked)
    monkeypatch.setattr(Asked, "found", [])
    return Asked.found


def cpu_pool(client: ForkserverClient, slot: DeviceLock) -> RunnerPool:
    pool = RunnerPool(Forkservers({"torch": client}), RunnerSettings("cpu", THREADS, None, slot))
    pool.warm_in_background("torch")
    return pool


def test_a_spare_for_a_gpu_runs_nothing_in_advance(
    pool: RunnerPool, client: ForkserverClient, asked: list[WarmUp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A context on the device would stay there as long as the worker is idle."""
    monkeypatch.setattr(runner_pool, "IDLE_SECONDS", 0)
    pool.idle()
    spare(client)
    pool.idle()
    eventually("the idle time is over", lambda: pool._timer is not None and pool._timer.finished.is_set())
    assert asked == []


def test_a_spare_for_the_cpu_warms_up_once_the_worker_is_idle(
    client: ForkserverClient, slot: DeviceLock, asked: list[WarmUp]
) -> None:
    pool = cpu_pool(client, slot)
    try:
        pool.idle()
        eventually("it is asked to", lambda: asked)
        assert asked == [WarmUp(framework="torch", device="cpu", threads=THREADS)]
    finally:
        pool.close()


def test_the_next_runner_is_forked_while_a_job_ends_and_not_warmed_up(
    client: ForkserverClient, slot: DeviceLock, asked: list[WarmUp], tmp_path: Path
) -> None:
    """Between consecutive jobs a warm-up costs more than it saves."""
    pool = cpu_pool(client, slot)
    try:
        runner = pool.take("torch", lambda: None, slot.take, THREADS)
        begin(runner, tmp_path)
        pool.fork_next()
        eventually("there is a spare beside the runner", lambda: len(psutil.Process(client.pid).children()) == 2)
        (waiting,) = {child.pid for child in psutil.Process(client.pid).children()} - {runner.handle.pid}
        runner.close()
        pool.idle()
        following = pool.take("torch", lambda: None, slot.take, THREADS)
        assert following.handle.pid == waiting
        assert asked == []
        following.close()
    finally:
        pool.close()


def test_an_idle_time_that_ends_as_a_job_begins_forks_no_spare_beside_it(
    client: ForkserverClient, slot: DeviceLock, tmp_path: Path
) -> None:
    pool = cpu_pool(client, slot)
    try:
        runner = pool.take("torch", lambda: None, slot.take, THREADS)
        begin(runner, tmp_path)
        pool._prepare_warm()  # its timer had fired before it could be cancelled
        assert [child.pid for child in psutil.Process(client.pid).children()] == [runner.handle.pid]
        runner.close()
    finally:
        pool.close()


def test_a_warm_up_comes_before_the_assignment(client: ForkserverClient, slot: DeviceLock, tmp_path: Path) -> None:
    """An error of a warm-up, such as that of a framework that cannot do this one, leaves the runner cold."""
    runner = cpu_pool(client, slot).take("torch", lambda: None, slot.take, THREADS)
    runner.warm_up(WarmUp(framework="none", device="cpu", threads=THREADS))
    assert begin(runner, tmp_path)[0] == runner.handle.pid
    runner.close()


@pytest.mark.parametrize("prepared", [True, False])
def test_a_busy_device_costs_no_runner(
    pool: RunnerPool, client: ForkserverClient, slot: DeviceLock, prepared: bool
) -> None:
    if prepared:
        pool.idle()
        spare(client)
    held = slot.take()
    with pytest.raises(DeviceBusy):
        pool.take("torch", lambda: None, slot.take, THREADS)
    os.close(held)
    eventually("no runner is left", lambda: not psutil.Process(client.pid).children())


def test_the_lock_is_given_back_if_no_runner_can_be_forked(
    pool: RunnerPool, slot: DeviceLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise ForkserverUnavailable("no")

    monkeypatch.setattr(pool, "_fork", lambda framework: refuse())
    with pytest.raises(ForkserverUnavailable):
        pool.take("torch", lambda: None, slot.take, THREADS)
    assert is_free(slot)


def test_an_end_before_the_attempt_listens_is_told(pool: RunnerPool, slot: DeviceLock) -> None:
    pool.idle()
    told: list[Callable[[], None] | int] = []
    runner = pool.take("torch", lambda: told.append(1), slot.take)
    runner.handle.kill()
    eventually("it is told", lambda: told)
    runner.close()
