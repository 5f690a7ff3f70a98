"""The part of a perceptron's learner that is the same in both frameworks: what outputs mean, and metrics of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightshift.families.learner import Array, LearnerSetup
from worker.families.mlp.family import MlpModel
from worker.families.mlp.regression import measures
from worker.families.mlp.targets import Scale
from worker.families.mlp.tasks import LOSSES, Loss, TableTask
from worker.training.backends.base_learner import BaseLearner
from worker.training.numerics.dropout import layer_masks


class MlpLearner(BaseLearner):
    """Base of the learners, before the base class of the framework.

    The `facts` of its setup: `preprocessing`, `classes` (of classes only), optionally `frozen` (prefixes of fixed
    weights). Numbers are learned standardized; metrics and predictions are in the units of the table.
    """

    model: MlpModel

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.task: TableTask = setup.facts["preprocessing"]["task"]
        self.loss: Loss = self.model.loss or LOSSES[self.task][0]
        self.scale = Scale.of(setup.facts) if self.task == "numbers" else Scale()
        #: Factor from the loss of standardized numbers to that of the table's.
        self.unit = self.scale.std ** (2 if self.loss == "mean_squared_error" else 1)

    def outputs(self, inputs: Array, batch_size: int) -> Array:
        """Return the outputs of the last layer, float32 [rows, outputs], computed in float32."""
        raise NotImplementedError

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        found, wanted = self.outputs(split["x"], batch_size), np.asarray(split["y"])
        if self.task == "classes":
            hits = found.argmax(axis=1) == wanted
            return {"loss": float(-_log_softmax(found)[np.arange(len(wanted)), wanted].mean()), "accuracy": hits.mean()}
        return measures(self._numbers(found), wanted, self.loss)

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return probabilities [n, classes], or numbers [n] in the units of the table, float32."""
        found = self.outputs(inputs, batch_size)
        if self.task == "numbers":
            return self._numbers(found).astype(np.float32)
        return np.exp(_log_softmax(found)).astype(np.float32)

    def _numbers(self, outputs: Array) -> Array:
        numbers: Array = outputs[:, 0].astype(np.float64) * self.scale.std + self.scale.mean
        return numbers

    def _learned(self, split: Mapping[str, Array]) -> Array:
        """Return what the loss compares outputs with: classes int64 [n], or standardized numbers float32 [n]."""
        wanted = np.asarray(split["y"])
        if self.task == "classes":
            return wanted
        return ((wanted - self.scale.mean) / self.scale.std).astype(np.float32)

    def _masks(self, rows: int, step: int) -> list[Any]:
        """Return the dropout masks of a step, one for each hidden layer, or none."""
        if not self.model.dropout:
            return []
        shapes = [(rows, units) for units in self.model.hidden]
        return list(layer_masks(self.training.seed, step, shapes, self.model.dropout))

    def _named(self, *means: float) -> dict[str, float]:
        loss, *others = means
        return super()._named(loss * self.unit, *others)


def measured(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the metrics of a step."""
    return ("loss", "accuracy") if facts["preprocessing"]["task"] == "classes" else ("loss",)


def _log_softmax(logits: Array) -> Array:
    """Return the logarithms of probabilities, float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
