"""The cores that this process may use, and how workers of one host share them."""

from __future__ import annotations

import os

from shared.settings import Settings


def available_cores() -> int:
    """Return the number of cores that this process may run on (its affinity, such as a container's cpuset)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(settings: Settings) -> int:
    """Return the most threads of a runner: as set, else the cores that this process may run on."""
    return settings.torch_threads if isinstance(settings.torch_threads, int) else available_cores()


def share(workers: int) -> int | None:
    """Return the threads of each of several workers that one launcher starts; None: one has all cores."""
    return max(1, available_cores() // workers) if workers > 1 else None
