"""The devices of this host."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import psutil

from nightshift.errors import ConfigurationError
from shared.events import emit
from shared.fleet.gpus import VISIBLE, choose_gpus


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
        return {VISIBLE: self.uuid or ""}


def choose(wanted: Literal["auto", "cpu", "gpu"], index: int | None = None, slots: int = 1) -> list[Device]:
    """Return all GPUs that this process may use, or the CPU if there is none; `index` picks one.

    `slots` of the CPU share its cores and memory. Cards that cannot be used are told in the log. Raises
    ConfigurationError.
    """
    if slots < 1 or (slots > 1 and wanted != "cpu"):
        raise ConfigurationError(f"--slots {slots}: use a number from 1, with --device cpu")
    if wanted == "cpu":
        return [cpu(number, slots) for number in (range(slots) if index is None else (index,))]
    found = choose_gpus(wanted)
    for problem in found.problems:
        emit("gpu.unusable", problem=str(problem))
    gpus = [Device("gpu", gpu.index, gpu.name, gpu.uuid, gpu.memory_bytes) for gpu in found.gpus]
    if not gpus:
        return [cpu(index or 0)]
    chosen = [device for device in gpus if index in (None, device.index)]
    if not chosen:
        numbers = ", ".join(str(device.index) for device in gpus)
        raise ConfigurationError(f"--index {index}: the GPUs that can be used here are {numbers}")
    return chosen


def named(name: str) -> Device:
    """Return the device of a name: `cpu`, `gpu` or `cuda` (the first GPU), or `cuda:N`.

    N counts the GPUs that CUDA_VISIBLE_DEVICES shows from 0, as frameworks do. Raises ConfigurationError.
    """
    kind, _, number = name.partition(":")
    if name == "cpu":
        return cpu()
    if kind not in ("cuda", "gpu") or not (number or "0").isdecimal():
        raise ConfigurationError(f"--device {name}: it is cpu, or a GPU such as cuda:0")
    gpus = choose("gpu")
    if int(number or 0) >= len(gpus):
        raise ConfigurationError(f"--device {name}: there are {len(gpus)} GPUs here, counted from 0")
    return gpus[int(number or 0)]


def cpu(index: int = 0, slots: int = 1) -> Device:
    """Return the CPU, or one of its slots with its share of the memory, as the device of a worker."""
    memory = psutil.virtual_memory().total // slots
    return Device("cpu", index, f"cpu ({os.cpu_count()} cores)", None, memory)
