"""Learners of both frameworks side by side, as the conformance tests compare them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array, LearnerSetup
from nightshift.families.training import Training
from nightshift.testing import devices
from nightshift.testing.reasons import require
from shared.specs.families import FAMILIES
from worker import families

FRAMEWORKS = ("torch", "tensorflow")

#: One CPU thread: the machine is shared, and TensorFlow cannot change the number in a process.
THREADS = 1


def learner(family: str, framework: str, facts: Mapping[str, Any], model: Mapping[str, Any], **training: Any) -> Any:
    """Return a learner of 10 planned steps on the chosen device, in float32 by default."""
    require(framework)
    spec = FAMILIES[family].model.model_validate({**model, "framework": framework})
    how = Training.model_validate({"precision": "float32", **training})
    setup = LearnerSetup(spec, how, total_steps=10, device=devices.kind(), threads=THREADS, facts=facts)
    return families.load(family, framework)(setup)


def gradients(learner: Any, rows: int) -> dict[str, Array]:
    """Return the gradient of a first `sgd` step on the first rows from its momentum, in canonical layout."""
    learner.train_step(np.arange(rows), 0)
    arrays = learner.state().arrays
    found = {
        name.removeprefix("optimizer/").removesuffix("/momentum_buffer"): array
        for name, array in arrays.items()
        if name.endswith("/momentum_buffer")
    }
    return {name: canonical(learner, name, array) for name, array in found.items()}


def canonical(learner: Any, name: str, array: Array) -> Array:
    """Return an optimizer slot, which has the framework's layout, in the canonical layout of its weight."""
    convert = getattr(learner, "_canonical", None)
    return array if convert is None else convert(name, array)


def close(found: Array, wanted: Array, rtol: float = 1e-4) -> bool:
    """Return whether arrays are equal within `rtol`, relative to the largest value: numbers near zero are rounding."""
    scale = float(np.abs(wanted).max(initial=0.0))
    return found.shape == wanted.shape and bool(
        np.all(np.abs(found - wanted) <= rtol * np.abs(wanted) + rtol * 0.1 * scale)
    )
