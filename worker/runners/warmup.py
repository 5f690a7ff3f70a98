"""What a spare runner does before it has a job: one small training of its own, thrown away.

It loads the kernels, starts the thread pool and faults in the memory that every first step needs. Nothing of it can
reach the job: learners draw every random number from the job's seed, and the result is not kept.
"""

from __future__ import annotations

import numpy as np

from nightshift.names import DEFAULT_FAMILY
from shared.specs.families import FAMILIES
from shared.specs.training import Training
from worker import families
from worker.training.learner import LearnerSetup
from worker.training.numerics.allocator import keep_freed_memory

_FAMILY = (
    DEFAULT_FAMILY  # its kernels (convolution, linear, loss, optimizer) are what most first steps spend their time on
)
_CLASSES, _IMAGE, _BATCH = 10, (28, 28, 1), 32
_STEPS = 2


def warm_up(framework: str, device: str, threads: int | None) -> None:
    """Raises whatever a learner raises; the caller does without."""
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
