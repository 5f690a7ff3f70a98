"""A small training run that loads the kernels most first steps need: convolution, linear, loss, optimizer."""

from __future__ import annotations

import numpy as np

from nightshift.families.learner import LearnerSetup
from nightshift.families.training import Training
from worker import families
from worker.families.cnn.family import FAMILY, CnnModel

_CLASSES, _IMAGE, _BATCH = 10, (28, 28, 1), 32
_STEPS = 2


def run(framework: str, device: str, threads: int | None) -> None:
    """Train two steps on zeros. Raises any error of a learner."""
    model = CnnModel.model_validate({"framework": framework, "preset": FAMILY.default_preset})
    setup = LearnerSetup(
        model=model,
        training=Training(batch_size=_BATCH),
        total_steps=_STEPS,
        device=device,
        threads=threads,
        facts={"classes": [str(n) for n in range(_CLASSES)], "image": list(_IMAGE)},
    )
    learner = families.load(FAMILY.name, framework)(setup)
    learner.set_data({"x": np.zeros((_BATCH, *_IMAGE), np.uint8), "y": np.zeros(_BATCH, np.int64)})
    for step in range(_STEPS):
        learner.train_step(np.arange(_BATCH), step)
    learner.read_metrics()
