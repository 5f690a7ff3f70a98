"""The learner protocol: all the loop knows about a model, in either framework.

A learner owns its weights, optimizer(s), learning-rate schedule and device. Arrays cross this border as numpy
(canonical layout); everything inside is native to the framework. A GAN keeps its two optimizers inside `train_step`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LearnerState:
    """Everything needed to go on bit for bit: arrays (weights, optimizer slots) and small JSON facts (steps, RNG
    keys)."""

    arrays: Mapping[str, Array]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Learner(Protocol):
    def set_data(self, split: Mapping[str, Array]) -> None:
        """Give the learner its training arrays once (moved to the device when they fit); steps then name rows only."""
        ...

    def train_step(self, rows: npt.NDArray[np.int64], step: int) -> None:
        """One optimizer step on these rows. `step` counts from 0 and keys every random draw of the step
        (dropout, augmentation, noise). Does not wait for the device and returns nothing."""
        ...

    def read_metrics(self) -> dict[str, float]:
        """Means since the last read (`loss`, `accuracy`, …; `learning_rate` is the present one). Waits for the device.
        A non-finite loss must have been kept from touching the weights; it is returned as it is."""
        ...

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        """Metrics without prefix (`loss`, `accuracy`) over a whole split, without touching any state."""
        ...

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Outputs as the family defines them (cnn: probabilities, shape [n, classes], float32)."""
        ...

    def state(self) -> LearnerState:
        """A snapshot in host memory: later steps do not change it."""
        ...

    def load_state(self, state: LearnerState) -> None: ...

    def weights(self) -> dict[str, Array]:
        """The model alone in the family's canonical layout and names, float32: what `model.safetensors` holds."""
        ...

    def load_weights(self, weights: Mapping[str, Array]) -> None: ...


@dataclass(frozen=True)
class LearnerSetup:
    """What a learner is built from. Each `torch_learner.py` / `tensorflow_learner.py` has `build(setup) -> Learner`."""

    model: Any  # the family's model spec (shared.specs)
    training: Any  # shared.specs.training.Training
    total_steps: int  # planned optimizer steps of the whole run, for schedules
    device: str  # cpu | gpu
    threads: int | None  # CPU threads; part of the run's identity
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the data: classes, vocabulary size, …


@dataclass(frozen=True)
class Splits:
    """A data set as a family's learner wants it. Arrays may be memory-mapped; a step selects rows of `train`."""

    train: Mapping[str, Array]
    validation: Mapping[str, Array] | None
    test: Mapping[str, Array] | None
    facts: Mapping[str, Any]  # goes into LearnerSetup.facts: classes, image, vocabulary size, …
    length: int  # how many rows are trained on
    rows: npt.NDArray[np.int64] | None = None  # which rows of `train` those are; None: 0 … length - 1
    folder: Path | None = None  # of the stored data set, for what a family keeps beside it; None: keep nothing


class PerExampleScores(Protocol):
    """How a trained model did on each row of a test part, so that two models can be compared row by row."""

    rows: int

    def incomparable(self, other: Any) -> str | None:
        """Why scores of the two would mean different things, or None. `other`: of the same family and data."""
        ...

    def score(self, metric: str) -> float:
        """A metric of the family's `judged_by` over all rows."""
        ...

    def resampled(self, metric: str, counts: Array) -> Array:
        """The metric [r] where row i is there `counts[:, i]` times; counts [r, rows]."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What a family says of a finished model: numbers to show, and a document that becomes `evaluation.json`.
    `arrays` holds what its figures need (probabilities, pictures); it is not stored."""

    metrics: dict[str, float]
    document: dict[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
