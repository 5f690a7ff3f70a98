"""The GPUs that the NVIDIA driver shows, by NVML: no framework is imported and no device initialised to look."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver names it."""

    index: int
    name: str
    uuid: str
    memory_bytes: int


@dataclass(frozen=True)
class GpuUsage:
    """How busy a GPU is."""

    memory_bytes: int
    memory_used_bytes: int
    busy_percent: float
    temperature_celsius: float | None  # not every device has a sensor


def visible_gpus() -> list[Gpu]:
    """Return the GPUs in the driver's order; none without a driver, or where it fails.

    CUDA_VISIBLE_DEVICES hides the others, by index or UUID.
    """
    found: list[Gpu] = []
    with suppress(Exception):  # no package, no driver, no permission: there is no GPU to work on
        nvml = _opened()
        found = [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    names = [name.strip() for name in visible.split(",")]
    return [gpu for gpu in found if str(gpu.index) in names or gpu.uuid in names]


def driver_version() -> str | None:
    """Return the version of the driver; None without one."""
    with suppress(Exception):
        return _text(_opened().nvmlSystemGetDriverVersion())
    return None


class GpuReader:
    """Reads how busy one GPU is. A driver that fails, or is replaced, costs the figures only."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._nvml: Any = None
        self._handle: Any = None

    def read(self) -> GpuUsage | None:
        """Return what is in use now; None while the driver does not answer."""
        try:
            if self._handle is None:
                self._nvml = _opened()
                self._handle = self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
            busy = float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
            return GpuUsage(int(memory.total), int(memory.used), busy, self._temperature())
        except Exception:
            self._handle = None
            return None

    def _temperature(self) -> float | None:
        with suppress(Exception):
            sensor = self._nvml.NVML_TEMPERATURE_GPU
            return float(self._nvml.nvmlDeviceGetTemperature(self._handle, sensor))
        return None


def _opened() -> Any:
    """Return NVML, which stays open for the life of the process: opening it again costs nothing."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    return Gpu(index, _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle)), memory)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
