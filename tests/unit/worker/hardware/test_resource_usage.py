"""What a heartbeat says of a device, from a psutil and an NVML that say what a test wants."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.fleet import workers
from shared.fleet.workers import HostUsage, RunnerUsage, Usage, WorkerInfo
from worker.hardware import resource_usage
from worker.hardware.devices import Device
from worker.hardware.resource_usage import ResourceMonitor

GB = 1_000_000_000
CPU = Device("cpu", 0, "cpu")
GPU = Device("gpu", 0, "NVIDIA Test", "GPU-0", 80 * GB)


class Host:
    """What psutil says of a machine of two cores."""

    def __init__(self) -> None:
        self.busy = self.idle = 100.0
        self.processes: list[Process] = []

    def virtual_memory(self) -> Any:
        return SimpleNamespace(total=1_024_000, available=614_400)

    def cpu_times(self) -> Any:
        return CpuTimes(user=self.busy, idle=self.idle, guest=7.0)

    def children(self, recursive: bool) -> list[Process]:
        assert recursive
        return self.processes


CpuTimes = namedtuple("CpuTimes", ["user", "idle", "guest"])


@dataclass(eq=False)
class Process:
    parent: int
    seconds: float = 0.0
    gone: bool = False

    def ppid(self) -> int:
        if self.gone:
            raise psutil.NoSuchProcess(1)
        return self.parent

    def memory_info(self) -> Any:
        return SimpleNamespace(rss=30)

    def cpu_times(self) -> Any:
        return SimpleNamespace(user=self.seconds, system=0.0)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(psutil, "virtual_memory", host.virtual_memory)
    monkeypatch.setattr(psutil, "cpu_times", host.cpu_times)
    monkeypatch.setattr(psutil, "Process", lambda: host)
    return host


def nvml(**calls: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=80 * GB, used=20 * GB),
            "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=97),
            "NVML_TEMPERATURE_GPU": 0,
            "nvmlDeviceGetTemperature": lambda handle, sensor: 61,
        }
        | calls
    )


def test_a_cpu_worker_tells_of_its_host(host: Host) -> None:
    host.busy += 7.0  # of which guests took all
    meter = ResourceMonitor(CPU)
    host.busy, host.idle = 182.0, 125.0
    found = meter.read()
    assert (found.memory_bytes, found.memory_used_bytes, found.busy_percent) == (1_024_000, 409_600, 75.0)
    assert found.host == HostUsage(1_024_000, 409_600, 75.0, os.cpu_count())
    host.idle += 100
    assert meter.read().busy_percent == 0.0, "since the reading before"
    assert meter.read().busy_percent is None, "no time has passed"


def test_a_gpu_worker_tells_of_its_gpu_and_its_host(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    found = ResourceMonitor(GPU).read()
    assert (found.memory_bytes, found.memory_used_bytes) == (80 * GB, 20 * GB)
    assert (found.busy_percent, found.temperature_celsius) == (97.0, 61.0)
    assert found.host.memory_bytes == 1_024_000


def test_a_driver_that_fails_costs_the_figures_only(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(handle: object) -> None:
        raise OSError("GPU is lost")

    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetMemoryInfo=lost))
    found = ResourceMonitor(GPU).read()
    assert (found.memory_bytes, found.busy_percent, found.host.memory_bytes) == (None, None, 1_024_000)
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetTemperature=lost))
    assert replace(ResourceMonitor(GPU).read(), runner=None) == Usage(80 * GB, 20 * GB, 97.0, None, found.host)
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetUtilizationRates=lost))
    assert replace(ResourceMonitor(GPU).read(), runner=None) == Usage(80 * GB, 20 * GB, None, 61.0, found.host)


def test_the_host_of_this_test_can_be_read() -> None:
    found = ResourceMonitor(CPU).read()
    assert found.memory_bytes is not None
    assert found.memory_used_bytes is not None
    assert 0 < found.memory_used_bytes < found.memory_bytes


def test_the_last_heartbeat_is_listed_while_the_worker_is_there(engine: Engine) -> None:
    with write(engine) as conn:
        workers.register(conn, WorkerInfo("gpu0@here", "here", 1, "gpu", "NVIDIA Test"))
        workers.heartbeat(conn, "gpu0@here", usage=Usage(80 * GB, 20 * GB, 97.0, 61.0))
    with read(engine) as conn:
        (shown,) = workers.list_workers(conn, 30.0)
    assert (shown["usage"]["busy_percent"], shown["usage"]["host"]["cpu_percent"]) == (97.0, None)
    with write(engine) as conn:
        workers.deregister(conn, "gpu0@here")
    with read(engine) as conn:
        assert workers.list_workers(conn, 30.0)[0]["usage"] is None


def test_a_worker_tells_what_its_runners_and_all_they_started_use(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=100.0)
    monkeypatch.setattr(resource_usage, "time", clock)
    meter = ResourceMonitor(CPU)
    runner, started, gone = Process(10, 1.0), Process(11), Process(10, 9.0, gone=True)
    host.processes = [Process(os.getpid(), 500.0), runner, started, gone]  # a forkserver, and what is below it
    assert meter.read().runner == RunnerUsage(60, None)
    started.seconds, clock.now = 3.0, 102.0
    assert meter.read().runner == RunnerUsage(60, 150.0)
    host.processes.append(Process(11, 2.0))
    clock.now += 2.0
    assert meter.read().runner == RunnerUsage(90, 100.0), "one that is new has spent its time since then"


def test_real_runners_are_the_grandchildren() -> None:
    """A child of this test stands for the forkserver."""
    below = "import os, sys; sys.stdin.read()"
    server = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(7, flush=True); {below}'])"
    with subprocess.Popen([sys.executable, "-c", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"7\n"
        found = ResourceMonitor(CPU).read().runner
        process.communicate()
    assert found is not None
    assert found.memory_bytes > 1_000_000
