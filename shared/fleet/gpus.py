"""The GPUs that this process may use: one choice for `nightshift up`, `nightshift worker` and `nightshift check`.

CUDA_VISIBLE_DEVICES names them by number, UUID or a beginning of one (`GPU-8a3…`, `MIG-…`). Numbers are those of NVML
and nvidia-smi. Workers get the UUID, so that no process counts in a list that is filtered already.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from nightshift.errors import ConfigurationError
from shared.fleet.nvml import Gpu, GpuProblem, Inventory, inventory
from shared.settings import Settings

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: What hides all GPUs on purpose.
_NONE = {"", "-1", "none", "void", "NoDevFiles"}


def visible_gpus() -> Inventory:
    """Return the GPUs that CUDA_VISIBLE_DEVICES shows. Raises ConfigurationError for a name that fits none."""
    found, names = inventory(), os.environ.get(VISIBLE)
    if names is None:
        return found
    return _shown(found, names)


def choose_gpus(wanted: Literal["auto", "gpu"]) -> Inventory:
    """Return the GPUs for workers: none only for `auto`, where there is none to use.

    Raises ConfigurationError: a GPU that its driver refuses must not become a CPU worker in silence.
    """
    found = visible_gpus()
    if not found.gpus and found.problems:
        what = "; ".join(map(str, found.problems))
        raise ConfigurationError(f"--device {wanted}: no GPU can be used ({what}). Mend that, or use --device cpu")
    if not found.gpus and wanted == "gpu":
        raise ConfigurationError(f"--device gpu: there is no GPU here: {found.absent}. Use --device cpu")
    return found


def refuse_memory_limit(settings: Settings) -> None:
    """Raise ConfigurationError if a limit of address space is set, of which CUDA reserves far more than it uses."""
    if settings.runner_memory_limit_bytes is not None:
        raise ConfigurationError(
            "NIGHTSHIFT_RUNNER_MEMORY_LIMIT_BYTES limits address space, of which CUDA reserves hundreds of gigabytes: "
            "each job on a GPU would end as out of memory. Unset it, and limit the memory of the service instead "
            "(`mem_limit` of the container, or `MemoryMax=` of systemd)"
        )


def _shown(found: Inventory, names: str) -> Inventory:
    wanted = [name.strip() for name in names.split(",")]
    if wanted[0] in _NONE:
        return Inventory(absent=f"{VISIBLE} hides all")
    if not found.gpus and not found.problems:
        return found
    gpus: list[Gpu] = []
    problems = [problem for problem in found.problems if problem.card is None or str(problem.card) in wanted]
    for name in wanted:
        if name in _NONE:  # CUDA ends its list here
            break
        fitting = _fitting(found.gpus, name)
        gpus += [gpu for gpu in fitting if gpu not in gpus]
        if not fitting and name not in {str(problem.card) for problem in problems}:
            problems.append(_missing(found, name))
    return replace(found, gpus=tuple(sorted(gpus, key=lambda gpu: gpu.index)), problems=tuple(problems))


def _fitting(gpus: Sequence[Gpu], name: str) -> list[Gpu]:
    """Return the GPU of that UUID or its beginning, or the card of that number: all its instances if MIG is on."""
    if name.isdecimal():
        return [gpu for gpu in gpus if gpu.card == int(name)]
    fitting = [gpu for gpu in gpus if gpu.uuid == name] or [gpu for gpu in gpus if gpu.uuid.startswith(name)]
    if len(fitting) > 1:
        raise ConfigurationError(f"{VISIBLE}: {name!r} is the beginning of {len(fitting)} UUIDs; add characters")
    return fitting


def _missing(found: Inventory, name: str) -> GpuProblem:
    """Return the problem of a UUID that fits none while a card is lost, which tells its UUID no more.

    Raises ConfigurationError: otherwise the name is wrong.
    """
    if not found.problems or (name.isdecimal() and found.gpus):
        there = ", ".join(f"{gpu.index} {gpu.uuid}" for gpu in found.gpus)
        raise ConfigurationError(f"{VISIBLE}: {name!r} fits no GPU of this host, which has {there}")
    return GpuProblem(f"{name} is not found ({'; '.join(map(str, found.problems))})")
