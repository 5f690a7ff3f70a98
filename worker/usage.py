"""How busy a worker's device and host are, as every heartbeat tells: from /proc and NVML, which cost next to nothing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.fleet.workers import HostUsage, Usage
from worker.devices import Device

#: In kB, in the first lines of /proc/meminfo.
_TOTAL, _AVAILABLE = "MemTotal:", "MemAvailable:"
_IDLE = slice(3, 5)  # idle and iowait, of /proc/stat's first line


class Meter:
    """Reads one device. Busy shares are those since the reading before; what cannot be known is None."""

    def __init__(self, device: Device, proc: Path = Path("/proc")) -> None:
        self._device, self._proc = device, proc
        self._ticks = self._cpu_ticks()
        self._gpu = _Gpu(device.uuid) if device.kind == "gpu" and device.uuid else None

    def read(self) -> Usage:
        host = self._host()
        if self._gpu is not None:
            return self._gpu.read(host)
        return Usage(host.memory_bytes, host.memory_used_bytes, host.cpu_percent, None, host)

    def _host(self) -> HostUsage:
        total, used = self._memory()
        return HostUsage(total, used, self._cpu_percent())

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
