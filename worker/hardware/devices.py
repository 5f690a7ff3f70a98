"""The devices of this host."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import psutil

from nightshift.errors import ConfigurationError
from shared.fleet.nvml import visible_gpus


@dataclass(frozen=True)
class Device:
    """A GPU or the CPU."""

    kind: Literal["cpu", "gpu"]
    index: int
    name: str
    uuid: str | None = None
    memory_bytes: int | None = None

    def worker_name(self, host: str) -> str:
        """Return the name of this device's worker, such as gpu0@host."""
        return f"{self.kind}{self.index}@{host}"

    def environment(self) -> dict[str, str]:
        """Return the environment that pins a process to this device.

        GPUs are named by UUID, because an index depends on the order of enumeration. A CPU worker sees no GPU, so its
        jobs cannot allocate memory there.
        """
        return {"CUDA_VISIBLE_DEVICES": self.uuid or ""}


def choose(wanted: Literal["auto", "cpu", "gpu"], index: int | None = None) -> list[Device]:
    """Return all GPUs, or the CPU if there is none; `index` picks one. Raises ConfigurationError."""
    found = _gpus() if wanted != "cpu" else []
    if wanted == "gpu" and not found:
        raise ConfigurationError("--device gpu: NVML finds no GPU here; use --device cpu, or install the driver")
    if not found:
        return [cpu(index or 0)]
    if index is None:
        return found
    if index >= len(found):
        raise ConfigurationError(f"--index {index}: this host has {len(found)} GPU(s), counted from 0")
    return [found[index]]


def cpu(index: int = 0) -> Device:
    """Return the CPU as the device of a worker."""
    return Device("cpu", index, f"cpu ({os.cpu_count()} cores)", None, psutil.virtual_memory().total)


def _gpus() -> list[Device]:
    return [Device("gpu", gpu.index, gpu.name, gpu.uuid, gpu.memory_bytes) for gpu in visible_gpus()]
