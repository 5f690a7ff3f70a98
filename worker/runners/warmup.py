"""Warm-up of a spare runner: a small training run whose result is dropped.

It loads kernels, starts the thread pool and faults in the memory that a first step needs. It cannot affect the job:
learners draw all random numbers from the job's seed.
"""

from __future__ import annotations

import numpy as np

from nightshift.names import DEFAULT_FAMILY
from shared.specs.families import FAMILIES
from shared.specs.training import Training
from worker import families
from worker.training.learner import LearnerSetup
from worker.training.numerics.allocator import keep_freed_memory

#: Most first steps spend their time on loading this family's kernels (convolution, linear, loss, optimizer).
_FAMILY = DEFAULT_FAMILY
_CLASSES, _IMAGE, _BATCH = 10, (28, 28, 1), 32
_STEPS = 2


def warm_up(framework: str, device: str, threads: int | None) -> None:
    """Run the warm-up. Raises any error of a learner."""
    keep_freed_memory()
    family = FAMILIES[_FAMILY]
    model = family.model.model_validate({"family": _FAMILY, "framework": framework, "preset": family.default_preset})
    setup = LearnerSetup(
        model=model,
        training=Training(batch_size=_BATCH),
        total_steps=_STEPS,
        device=device,
        threads=threads,
        facts={"classes": [str(n) for n in range(_CLASSES)], "image": list(_IMAGE)},
    )
    learner = families.load(_FAMILY, framework)(setup)
    learner.set_data({"x": np.zeros((_BATCH, *_IMAGE), np.uint8), "y": np.zeros(_BATCH, np.int64)})
    for step in range(_STEPS):
        learner.train_step(np.arange(_BATCH), step)
    learner.read_metrics()
