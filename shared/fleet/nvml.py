"""The GPUs that the NVIDIA driver shows, by NVML: no framework is imported and no device initialised to look.

A card whose MIG mode is on is shown as its instances. What the driver says of a card that cannot be used is kept as a
problem, for whoever wanted to use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

#: Values of `NVMLError`: there is no driver, which is no fault of a host without GPUs.
_NO_DRIVER = {9: "the NVIDIA driver is not loaded", 12: "the NVIDIA driver is not installed"}
#: Values of `NVMLError`: the card works no more until its host is mended (not found, lost, reset required).
_LOST = {6, 15, 16}


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance of one whose MIG mode is on, as the driver names it."""

    index: int  # among all that the driver shows, instances counted one by one
    card: int  # the driver's number of the card
    name: str
    uuid: str
    memory_bytes: int | None


@dataclass(frozen=True)
class GpuProblem:
    """What the driver says of a card that cannot be used; `card` is its number, or None for all."""

    text: str
    card: int | None = None

    def __str__(self) -> str:
        return self.text if self.card is None else f"GPU {self.card}: {self.text}"


@dataclass(frozen=True)
class Inventory:
    """The GPUs of a host. `absent` says why there is none, where that is no fault."""

    gpus: tuple[Gpu, ...] = ()
    problems: tuple[GpuProblem, ...] = ()
    absent: str | None = None


def inventory() -> Inventory:
    """Return all GPUs of this host in the driver's order, hidden ones too."""
    try:
        nvml = opened()
        count = int(nvml.nvmlDeviceGetCount())
    except ImportError:
        return Inventory(absent="the package nvidia-ml-py is not installed")
    except Exception as error:
        absent = _NO_DRIVER.get(getattr(error, "value", None) or 0)
        return Inventory(absent=absent) if absent else Inventory(problems=(GpuProblem(f"NVML: {error}"),))
    return _counted(nvml, count)


def _counted(nvml: Any, count: int) -> Inventory:
    gpus: list[Gpu] = []
    problems: list[GpuProblem] = []
    index = 0
    for card in range(count):
        try:
            found = list(_devices(nvml, card, index))
        except Exception as error:
            found = []
            problems.append(GpuProblem(str(error), card))
        gpus += found
        index += max(1, len(found))  # a card that is lost keeps its number, and so do those after it
    return Inventory(tuple(gpus), tuple(problems), None if count else "the NVIDIA driver shows no GPU")


def _devices(nvml: Any, card: int, index: int) -> Iterator[Gpu]:
    """Yield the card, or its instances if MIG is on. Raises the error of the driver, or LookupError."""
    handle = nvml.nvmlDeviceGetHandleByIndex(card)
    if not _is_partitioned(nvml, handle):
        yield _gpu(nvml, handle, index, card)
        return
    instances = list(_instances(nvml, handle))
    if not instances:
        raise LookupError("its MIG mode is on, and it has no instance (nvidia-smi mig -cgi … -C)")
    for number, instance in enumerate(instances):
        yield _gpu(nvml, instance, index + number, card)


def _is_partitioned(nvml: Any, handle: Any) -> bool:
    with suppress(Exception):  # a card without MIG refuses the question
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    return False


def _instances(nvml: Any, handle: Any) -> Iterator[Any]:
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError:  # a free place
            continue


def _gpu(nvml: Any, handle: Any, index: int, card: int) -> Gpu:
    memory = None
    with suppress(Exception):
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    return Gpu(index, card, _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle)), memory)


def driver_version() -> str | None:
    """Return the version of the driver; None without one."""
    with suppress(Exception):
        return _text(opened().nvmlSystemGetDriverVersion())
    return None


def opened() -> Any:
    """Return NVML, which stays open for the life of the process: opening it again costs nothing."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml


def is_lost(error: Exception) -> bool:
    """Return whether an error of NVML says that the device works no more until its host is mended."""
    return getattr(error, "value", None) in _LOST


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
