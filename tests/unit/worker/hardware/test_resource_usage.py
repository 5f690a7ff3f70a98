"""What a heartbeat says of a device, from a /proc and an NVML that say what a test wants."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.fleet import workers
from shared.fleet.workers import HostUsage, Usage, WorkerInfo
from worker.hardware.devices import Device
from worker.hardware.resource_usage import ResourceMonitor

GB = 1_000_000_000
CPU = Device("cpu", 0, "cpu")
GPU = Device("gpu", 0, "NVIDIA Test", "GPU-0", 80 * GB)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "meminfo").write_text("MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\n")
    ticks(tmp_path, busy=100, idle=100)
    return tmp_path


def ticks(proc: Path, busy: int, idle: int) -> None:
    (proc / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 7 7\ncpu0 1 2 3\n")


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


def test_a_cpu_worker_tells_of_its_host(proc: Path) -> None:
    meter = ResourceMonitor(CPU, proc)
    ticks(proc, busy=175, idle=125)
    usage = meter.read()
    assert (usage.memory_bytes, usage.memory_used_bytes, usage.busy_percent) == (1_024_000, 409_600, 75.0)
    assert usage.host == HostUsage(1_024_000, 409_600, 75.0, os.cpu_count())
    ticks(proc, busy=175, idle=225)
    assert meter.read().busy_percent == 0.0, "since the reading before"


def test_a_gpu_worker_tells_of_its_gpu_and_its_host(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    usage = ResourceMonitor(GPU, proc).read()
    assert (usage.memory_bytes, usage.memory_used_bytes) == (80 * GB, 20 * GB)
    assert (usage.busy_percent, usage.temperature_celsius) == (97.0, 61.0)
    assert usage.host.memory_bytes == 1_024_000


def test_a_driver_that_fails_costs_the_figures_only(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(handle: object) -> None:
        raise OSError("GPU is lost")

    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetUtilizationRates=lost))
    usage = ResourceMonitor(GPU, proc).read()
    assert (usage.memory_bytes, usage.busy_percent, usage.host.memory_bytes) == (None, None, 1_024_000)
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetTemperature=lost))
    assert ResourceMonitor(GPU, proc).read() == Usage(80 * GB, 20 * GB, 97.0, None, usage.host)


def test_a_host_without_proc_is_not_an_error(tmp_path: Path) -> None:
    assert ResourceMonitor(CPU, tmp_path).read() == Usage(host=HostUsage(cores=os.cpu_count()))


def test_the_host_of_this_test_can_be_read() -> None:
    usage = ResourceMonitor(CPU).read()
    assert usage.memory_bytes is not None
    assert usage.memory_used_bytes is not None
    assert 0 < usage.memory_used_bytes < usage.memory_bytes


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


def test_a_worker_tells_what_its_runners_and_all_they_started_use(proc: Path) -> None:
    meter = ResourceMonitor(CPU, proc)
    assert meter.read().runner is None, "this kernel does not list children"
    family(proc, os.getpid(), [10], ticks=0)  # the worker, its forkserver, a runner, what that started
    family(proc, 10, [11], ticks=50_000)
    family(proc, 11, [12], ticks=100)
    family(proc, 12, [], ticks=0)
    first = meter.read().runner
    assert first is not None
    assert (first.memory_bytes, first.cpu_percent) == (2 * 30 * os.sysconf("SC_PAGE_SIZE"), None)
    family(proc, 12, [], ticks=100_000)
    busy = meter.read().runner
    assert busy is not None
    assert busy.cpu_percent is not None
    assert busy.cpu_percent > 100


def family(proc: Path, pid: int, children: list[int], ticks: int) -> None:
    thread = proc / str(pid) / "task" / str(pid)
    thread.mkdir(parents=True, exist_ok=True)
    (thread / "children").write_text("".join(f"{child} " for child in children))
    (proc / str(pid) / "statm").write_text("100 30 10 1 0 5 0")
    words = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 6, "777"]
    (proc / str(pid) / "stat").write_text(f"{pid} (a) b) {' '.join(words)}")
