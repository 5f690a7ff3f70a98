"""What a heartbeat says of a device, from a /proc and an NVML that say what a test wants."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine

from shared.db.engine import read, write
from shared.fleet import workers
from shared.fleet.workers import HostUsage, Usage, WorkerInfo
from worker.devices import Device
from worker.usage import Meter

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
    meter = Meter(CPU, proc)
    ticks(proc, busy=175, idle=125)
    usage = meter.read()
    assert (usage.memory_bytes, usage.memory_used_bytes, usage.busy_percent) == (1_024_000, 409_600, 75.0)
    assert usage.host == HostUsage(1_024_000, 409_600, 75.0)
    ticks(proc, busy=175, idle=225)
    assert meter.read().busy_percent == 0.0, "since the reading before"


def test_a_gpu_worker_tells_of_its_gpu_and_its_host(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    usage = Meter(GPU, proc).read()
    assert (usage.memory_bytes, usage.memory_used_bytes) == (80 * GB, 20 * GB)
    assert (usage.busy_percent, usage.temperature_celsius) == (97.0, 61.0)
    assert usage.host.memory_bytes == 1_024_000


def test_a_driver_that_fails_costs_the_figures_only(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(handle: object) -> None:
        raise OSError("GPU is lost")

    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetUtilizationRates=lost))
    usage = Meter(GPU, proc).read()
    assert (usage.memory_bytes, usage.busy_percent, usage.host.memory_bytes) == (None, None, 1_024_000)
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetTemperature=lost))
    assert Meter(GPU, proc).read() == Usage(80 * GB, 20 * GB, 97.0, None, usage.host)


def test_a_host_without_proc_is_not_an_error(tmp_path: Path) -> None:
    assert Meter(CPU, tmp_path).read() == Usage()


def test_the_host_of_this_test_can_be_read() -> None:
    usage = Meter(CPU).read()
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
