"""The ready-made learners of the tests, and the data that they learn from."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nightshift.families import Array, Learner, LearnerSetup, LearnerState, Training

CLASSES, ROWS, BATCH, STEPS = 4, 40, 8, 10
SIDE = 8


def build(framework: str, name: str = "build", frozen: tuple[str, ...] = (), **training: Any) -> Any:
    """Return a learner of the module `<framework>_small`, with everything enabled that has state."""
    pytest.importorskip(framework)
    function = getattr(import_module(f"tests.unit.nightshift.families.{framework}_small"), name)
    how = {
        "optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.01, "grad_clip": 1.0, "lr_schedule": "cosine",
        "warmup_steps": 3, "precision": "float32", "augment": ["shift", "rotate", "flip", "erase"], "seed": 1,
    }  # fmt: skip
    model = SimpleNamespace(image_size=(SIDE, SIDE), image_channels=3)
    facts = {"classes": [str(n) for n in range(CLASSES)], **({"frozen": frozen} if frozen else {})}
    return function(LearnerSetup(model, Training(**{**how, **training}), STEPS, "cpu", 1, facts))


def pictures() -> dict[str, Array]:
    draw = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    shade = 60 * labels[:, None, None, None]
    noise = draw.integers(0, 60, (ROWS, SIDE, SIDE, 3))
    return {"x": (shade + noise).astype(np.uint8), "y": labels}


def train(learner: Learner, first: int = 0, last: int = STEPS) -> Any:
    """Train the steps, whose rows follow from their numbers."""
    learner.set_data(pictures())
    for step in range(first, last):
        learner.train_step((np.arange(BATCH) + step * BATCH) % ROWS, step)
    return learner


def snapshot(learner: Learner) -> dict[str, bytes]:
    """Return all that a learner saves."""
    return contents(learner.state())


def contents(state: LearnerState) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state.arrays.items()} | {
        "rate": repr(state.facts["rate"]).encode()
    }
