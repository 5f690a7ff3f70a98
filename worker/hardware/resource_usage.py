"""How busy a worker's device and host are, as every heartbeat tells: from /proc and NVML, which cost next to nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.fleet.workers import HostUsage, RunnerUsage, Usage
from worker.hardware.devices import Device

#: In kB, in the first lines of /proc/meminfo.
_TOTAL, _AVAILABLE = "MemTotal:", "MemAvailable:"
_IDLE = slice(3, 5)  # idle and iowait, of /proc/stat's first line
_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


class ResourceMonitor:
    """Reads one device. Busy shares are those since the reading before; what cannot be known is None."""

    def __init__(self, device: Device, proc: Path = Path("/proc")) -> None:
        self._device, self._proc = device, proc
        self._ticks = self._cpu_ticks()
        self._gpu = _Gpu(device.uuid) if device.kind == "gpu" and device.uuid else None
        self._runners = _Runners(proc)

    def read(self) -> Usage:
        return replace(self._device_usage(self._host()), runner=self._runners.read())

    def _device_usage(self, host: HostUsage) -> Usage:
        if self._gpu is not None:
            return self._gpu.read(host)
        return Usage(host.memory_bytes, host.memory_used_bytes, host.cpu_percent, None, host)

    def _host(self) -> HostUsage:
        total, used = self._memory()
        return HostUsage(total, used, self._cpu_percent(), os.cpu_count())

    def _memory(self) -> tuple[int | None, int | None]:
        """Bytes there are, and bytes that no program could have any more."""
        with suppress(OSError, ValueError, KeyError, IndexError):
            lines = (line.split() for line in (self._proc / "meminfo").read_text().splitlines())
            size = {words[0]: int(words[1]) * 1024 for words in lines}
            return size[_TOTAL], size[_TOTAL] - size[_AVAILABLE]
        return None, None

    def _cpu_percent(self) -> float | None:
        before, self._ticks = self._ticks, self._cpu_ticks()
        if before is None or self._ticks is None or self._ticks[0] <= before[0]:
            return None
        passed, idle = self._ticks[0] - before[0], self._ticks[1] - before[1]
        return round(100.0 * (1.0 - idle / passed), 1)

    def _cpu_ticks(self) -> tuple[int, int] | None:
        """(all, idle) since the host started, over all cores."""
        with suppress(OSError, ValueError, IndexError):
            # The last two, guests' time, are in the first two already.
            ticks = [int(word) for word in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
            return sum(ticks), sum(ticks[_IDLE])
        return None


class _Runners:
    """What runners use of the host, with all that they start: the worker's grandchildren (its children are forkservers)."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        #: When it was read, and the processor time (ticks) of each process by pid and start.
        self._before: tuple[float, dict[tuple[int, str], int]] | None = None

    def read(self) -> RunnerUsage | None:
        try:
            servers = list(_children(self._proc, os.getpid()))
        except OSError:
            return None
        memory, spent = 0, {}
        for pid in (pid for server in servers for pid in self._below(server)):
            with suppress(OSError, ValueError, IndexError):  # one that has just ended
                # Behind the command's name in brackets, which may hold anything: utime, stime and the start.
                words = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
                memory += int((self._proc / str(pid) / "statm").read_text().split()[1]) * _PAGE
                spent[pid, words[19]] = int(words[11]) + int(words[12])
        return RunnerUsage(memory, self._percent(spent))

    def _percent(self, spent: dict[tuple[int, str], int]) -> float | None:
        before, self._before = self._before, (time.monotonic(), spent)
        if before is None or self._before[0] <= before[0]:
            return None
        # One that came since the reading before has spent all of its time since then.
        seconds = sum(ticks - before[1].get(process, 0) for process, ticks in spent.items()) / _TICKS
        return round(100 * seconds / (self._before[0] - before[0]), 1)

    def _below(self, pid: int) -> Iterator[int]:
        with suppress(OSError):
            for child in _children(self._proc, pid):
                yield child
                yield from self._below(child)


def _children(proc: Path, pid: int) -> Iterator[int]:
    """A kernel lists them by the thread that forked them. Raises OSError where it does not, or the process is gone."""
    for thread in os.listdir(proc / str(pid) / "task"):
        yield from map(int, (proc / str(pid) / "task" / thread / "children").read_text().split())


class _Gpu:
    """One GPU by its UUID. NVML stays open for the life of the worker; a driver that fails costs the figures only."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._nvml: Any = None
        self._handle: Any = None

    def read(self, host: HostUsage) -> Usage:
        try:
            self._open()
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
            busy = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu
            return Usage(int(memory.total), int(memory.used), float(busy), self._temperature(), host)
        except Exception:  # NVML's errors, and whatever a driver that is being replaced does
            self._handle = None
            return Usage(None, None, None, None, host)

    def _open(self) -> None:
        if self._handle is None:
            import pynvml

            pynvml.nvmlInit()
            self._nvml, self._handle = pynvml, pynvml.nvmlDeviceGetHandleByUUID(self._uuid)

    def _temperature(self) -> float | None:
        with suppress(Exception):  # not every device has a sensor
            sensor = self._nvml.NVML_TEMPERATURE_GPU
            return float(self._nvml.nvmlDeviceGetTemperature(self._handle, sensor))
        return None
