"""How busy a GPU is, by NVML: each figure by itself, because a MIG instance or an old card lacks some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.events import emit
from shared.fleet import nvml


@dataclass(frozen=True)
class GpuUsage:
    """How busy a GPU is. None: the driver does not say."""

    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    busy_percent: float | None = None
    temperature_celsius: float | None = None


class GpuReader:
    """Reads how busy one GPU is. A driver that fails, or is replaced, costs the figures only.

    `lost` is what the driver says if the device works no more.
    """

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._nvml: Any = None
        self._handle: Any = None
        self._told: str | None = None
        self.lost: str | None = None

    def read(self) -> GpuUsage | None:
        """Return what is in use now; None while the driver does not answer."""
        try:
            if self._handle is None:
                self._nvml = nvml.opened()
                self._handle = self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        except Exception as error:
            self._handle = None
            self._tell(str(error))
            self.lost = str(error) if nvml.is_lost(error) else None
            return None
        self._tell(None)
        self.lost = None
        return GpuUsage(int(memory.total), int(memory.used), self._figure(self._busy), self._figure(self._temperature))

    def _tell(self, problem: str | None) -> None:
        """Emit an event when the driver begins to fail, and not at each reading after."""
        if problem is not None and problem != self._told:
            emit("gpu.unreadable", uuid=self._uuid, error=problem)
        self._told = problem

    def _figure(self, read: Callable[[], float]) -> float | None:
        try:
            return float(read())
        except Exception:  # not supported here
            return None

    def _busy(self) -> float:
        return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)

    def _temperature(self) -> float:
        """Return the temperature of the card: an instance has no sensor of its own."""
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        card = self._handle
        if self._uuid.startswith("MIG-"):
            card = self._nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(card)
        return float(self._nvml.nvmlDeviceGetTemperature(card, sensor))
