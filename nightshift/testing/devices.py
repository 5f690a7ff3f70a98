"""The device that the checks run on: the CPU, or one GPU of this host (`--device cuda:0`).

It is chosen before a framework is imported, for this process and for those that it starts.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Literal

from shared.fleet.gpus import visible_gpus
from worker.hardware.devices import named
from worker.runners.device_probe import problem_of

#: Set once a GPU is chosen, for child processes: its kind, and what could be chosen from.
VARIABLES = ("NIGHTSHIFT_TEST_DEVICE", "NIGHTSHIFT_TEST_GPUS")
_KIND, _BEFORE = VARIABLES
HELP = "run the checks on it: cpu (default), or a GPU by its number among those that are visible, such as cuda:0"


def choose(name: str) -> None:
    """Let this process and its children use a device. Raises ConfigurationError if it cannot be used."""
    if name == "cpu" or _KIND in os.environ:
        return
    device = named(name)
    others = ",".join(gpu.uuid for gpu in visible_gpus().gpus)
    os.environ.update({**device.environment(), _KIND: device.kind, _BEFORE: others})


def kind() -> Literal["cpu", "gpu"]:
    """Return the kind of the chosen device, as jobs have it."""
    return "gpu" if os.environ.get(_KIND) == "gpu" else "cpu"


def visible_before() -> list[str]:
    """Return the UUIDs of the GPUs that were visible before one was chosen."""
    return [uuid for uuid in os.environ.get(_BEFORE, "").split(",") if uuid]


@cache
def unusable(framework: str) -> str | None:
    """Return why a framework does not work on the chosen device; None: it does."""
    return problem_of(framework) if kind() == "gpu" else None
