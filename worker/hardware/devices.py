"""The devices of this host, by NVML: no framework is imported and no device initialised to look."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nightshift.errors import ConfigurationError


@dataclass(frozen=True)
class Device:
    kind: Literal["cpu", "gpu"]
    index: int
    name: str
    uuid: str | None = None
    memory_bytes: int | None = None

    def worker_name(self, host: str) -> str:
        return f"{self.kind}{self.index}@{host}"

    def environment(self) -> dict[str, str]:
        """What pins a process to this device. By UUID: an index changes with the order of enumeration. A CPU worker
        sees no GPU, so that no job of it can take memory there."""
        return {"CUDA_VISIBLE_DEVICES": self.uuid or ""}


def choose(wanted: Literal["auto", "cpu", "gpu"], index: int | None = None) -> list[Device]:
    """The devices to work on: all GPUs, or the CPU where there is none; `index` picks one. Raises ConfigurationError."""
    found = gpus() if wanted != "cpu" else []
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
    return Device("cpu", index, f"cpu ({os.cpu_count()} cores)", None, _host_memory())


def gpus() -> list[Device]:
    """Visible GPUs in NVML's order; none when there is no driver. Respects CUDA_VISIBLE_DEVICES given by index or UUID."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, no permission: there is no GPU to work on
        return []
    try:
        found = [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    names = [name.strip() for name in visible.split(",")]
    return [device for device in found if str(device.index) in names or device.uuid in names]


def _gpu(nvml: object, index: int) -> Device:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)  # type: ignore[attr-defined]
    memory = nvml.nvmlDeviceGetMemoryInfo(handle).total  # type: ignore[attr-defined]
    name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)  # type: ignore[attr-defined]
    return Device("gpu", index, _text(name), _text(uuid), int(memory))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _host_memory() -> int | None:
    try:
        first = Path("/proc/meminfo").read_text().splitlines()[0]
        return int(first.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
