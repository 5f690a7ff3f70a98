"""The learner protocol: the training loop's interface to a model in either framework.

A learner owns its weights, optimizer(s), learning-rate schedule and device. Arrays are passed as numpy (canonical
layout); inside, everything is native to the framework. A GAN uses both of its optimizers inside `train_step`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
else:
    Array = Any


@dataclass(frozen=True)
class LearnerState:
    """State for a bitwise exact resume: arrays (weights, optimizer slots) and JSON facts (steps, RNG keys)."""

    arrays: Mapping[str, Array]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Learner(Protocol):
    """A model with its optimizer on a device."""

    def set_data(self, split: Mapping[str, Array]) -> None:
        """Set the training arrays, which move to the device if they fit; steps then name rows only."""
        ...

    def train_step(self, rows: npt.NDArray[np.int64], step: int) -> None:
        """Run one optimizer step on these rows, without waiting for the device.

        `step` counts from 0 and is the key of all random draws of the step (dropout, augmentation, noise).
        """
        ...

    def read_metrics(self) -> dict[str, float]:
        """Return the means since the last read (`loss`, `accuracy`, …; the present `learning_rate`).

        Waits for the device. A non-finite loss is returned as it is and must not have changed the weights.
        """
        ...

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        """Return metrics without prefix (`loss`, `accuracy`) over a split. Changes no state."""
        ...

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the family's outputs (cnn: probabilities, [n, classes], float32)."""
        ...

    def state(self) -> LearnerState:
        """Return a snapshot in host memory, which later steps do not change."""
        ...

    def load_state(self, state: LearnerState) -> None:
        """Restore a state."""
        ...

    def weights(self) -> dict[str, Array]:
        """Return the weights in the family's canonical layout and names, float32, as in `model.safetensors`."""
        ...

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Load canonical weights."""
        ...


@runtime_checkable
class ScalesRate(Protocol):
    """A learner whose rate can be lowered while it trains, as `training.lr_schedule: plateau` needs."""

    def scale_rate(self, factor: float) -> None:
        """Multiply the rates of all steps from the next on by `factor` instead of the one before (at first 1).

        The factor is no part of the learner's state: it is given again after a resume.
        """
        ...


@dataclass(frozen=True)
class LearnerSetup:
    """Arguments of a learner. Each `torch_learner.py` / `tensorflow_learner.py` has `build(setup) -> Learner`."""

    model: Any  # the family's model spec (shared.specs)
    training: Any  # shared.specs.training.Training
    total_steps: int  # planned optimizer steps of the whole run, for schedules
    device: str  # cpu | gpu
    threads: int | None  # CPU threads; results are bitwise equal only for the same number
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the data: classes, vocabulary size, …


@dataclass(frozen=True)
class Splits:
    """A data set for a family's learner. Arrays may be memory-mapped; a step selects rows of `train`."""

    train: Mapping[str, Array]
    validation: Mapping[str, Array] | None
    test: Mapping[str, Array] | None
    facts: Mapping[str, Any]  # goes into LearnerSetup.facts: classes, image, vocabulary size, …
    length: int  # number of rows trained on
    rows: npt.NDArray[np.int64] | None = None  # these rows of `train`; None: 0 … length - 1
    folder: Path | None = None  # of the stored data set, for files a family keeps beside it; None: keep none
    notes: tuple[str, ...] = ()  # lines for the job's log: rows and columns that were left out


class PerExampleScores(Protocol):
    """Scores of a model for each row of a test part, so that two models can be compared row by row."""

    rows: int

    def incomparable(self, other: Any) -> str | None:
        """Return why the two cannot be compared, or None. `other` is of the same family and data."""
        ...

    def score(self, metric: str) -> float:
        """Return a metric of the family's `judged_by` over all rows."""
        ...

    def resampled(self, metric: str, counts: Array) -> Array:
        """Return the metric [r] of r resamples that contain row i `counts[:, i]` times; counts [r, rows]."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """A family's evaluation of a model: metrics, and a document that becomes `evaluation.json`.

    `arrays` are for its plots (probabilities, images) and not stored.
    """

    metrics: dict[str, float]
    document: dict[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
