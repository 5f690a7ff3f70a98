"""Warm-up of a spare runner: a small training run whose result is dropped.

It loads kernels, starts the thread pool and faults in the memory that a first step needs. It cannot affect the job:
learners draw all random numbers from the job's seed.
"""

from __future__ import annotations

from shared.specs.families import FAMILIES
from worker import families
from worker.training.numerics.allocator import keep_freed_memory


def warm_up(framework: str, device: str, threads: int | None) -> None:
    """Run the warm-up of Nightshift's families that have one. Raises any error of a learner."""
    keep_freed_memory()
    for name, one in FAMILIES.installed.items():
        run = families.optional_part(name, "warm_up") if one.is_builtin else None
        if run is not None:
            run(framework, device, threads)
