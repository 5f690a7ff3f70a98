"""Load of a worker's device and host for its heartbeats, from psutil and NVML."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import psutil

from shared.fleet.gpu_usage import GpuReader
from shared.fleet.workers import HostUsage, RunnerUsage, Usage
from worker.hardware.devices import Device


class ResourceMonitor:
    """Reads one device. Percentages cover the time since the last reading; unknown values are None."""

    def __init__(self, device: Device) -> None:
        self._times = _cpu_times()
        self._gpu = GpuReader(device.uuid) if device.kind == "gpu" and device.uuid else None
        self._runners = _Runners()

    @property
    def lost(self) -> str | None:
        """Return what the driver said at the last reading if the device works no more."""
        return self._gpu.lost if self._gpu is not None else None

    def read(self) -> Usage:
        """Return the present usage."""
        return replace(self._device_usage(self._host()), runner=self._runners.read())

    def _device_usage(self, host: HostUsage) -> Usage:
        if self._gpu is None:
            return Usage(host.memory_bytes, host.memory_used_bytes, host.cpu_percent, None, host)
        found = self._gpu.read()
        if found is None:
            return Usage(host=host)
        return Usage(found.memory_bytes, found.memory_used_bytes, found.busy_percent, found.temperature_celsius, host)

    def _host(self) -> HostUsage:
        memory = psutil.virtual_memory()
        return HostUsage(memory.total, memory.total - memory.available, self._cpu_percent(), os.cpu_count())

    def _cpu_percent(self) -> float | None:
        before, self._times = self._times, _cpu_times()
        passed, idle = self._times[0] - before[0], self._times[1] - before[1]
        return round(100.0 * (1.0 - idle / passed), 1) if passed > 0 else None


def _cpu_times() -> tuple[float, float]:
    """Return (all, idle) seconds of all cores since the host started; guests' time is contained in the rest.

    `psutil.cpu_percent` remembers its last reading by thread, but a monitor is read in another thread than it is
    created in.
    """
    times = psutil.cpu_times()
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - guests, times.idle + getattr(times, "iowait", 0.0)


class _Runners:
    """Usage of runners with their descendants: of the worker's grandchildren (its children are forkservers)."""

    def __init__(self) -> None:
        #: Time of the last reading, and the CPU time (seconds) of each process.
        self._before: tuple[float, dict[psutil.Process, float]] | None = None

    def read(self) -> RunnerUsage | None:
        memory, spent = 0, {}
        for process in psutil.Process().children(recursive=True):
            try:
                if process.ppid() != os.getpid():
                    memory += process.memory_info().rss
                    spent[process] = process_seconds(process)
            except psutil.Error:  # it has just ended
                continue
        return RunnerUsage(memory, self._percent(spent))

    def _percent(self, spent: dict[psutil.Process, float]) -> float | None:
        before, self._before = self._before, (time.monotonic(), spent)
        if before is None or self._before[0] <= before[0]:
            return None
        # A process that is new has spent all of its time since the last reading.
        seconds = sum(seconds - before[1].get(process, 0.0) for process, seconds in spent.items())
        return round(100 * seconds / (self._before[0] - before[0]), 1)


def process_seconds(process: psutil.Process) -> float:
    """Return the user and system time of all threads of a process. Raises psutil.Error."""
    times = process.cpu_times()
    return float(times.user + times.system)
