"""How many cores are idle, by which a run's threads may be chosen.

Two threads that share a core with other work wait for each other at every operation: a step of two such threads took
four times as long as one of a single thread.
"""

from __future__ import annotations

import os

import psutil

from shared.fleet.cores import available_cores, threads_of
from shared.settings import Settings

#: Time over which the cores are watched (seconds). Too low: a short pause counts as idle. Too high: jobs begin later.
WATCHED_SECONDS = 0.25


def threads_of_run(settings: Settings) -> int:
    """Return the threads of a run that begins: as set, or with `auto` the number of idle cores, at least one."""
    if settings.torch_threads != "auto" or available_cores() == 1:
        return threads_of(settings)
    return max(1, min(available_cores(), round(idle_cores())))


def idle_cores() -> float:
    """Return how many of the cores that this process may run on are idle, by watching them for a moment."""
    busy = psutil.cpu_percent(WATCHED_SECONDS, percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(busy))
    return float(sum(1 - busy[core] / 100 for core in allowed if core < len(busy)))
