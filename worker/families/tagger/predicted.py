"""Predictions of a test part: for each token the likeliest tag, and the loss of its own tag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array, Learner

#: Rows whose probabilities are in memory at a time, and rows that are computed at a time.
_ROWS, BATCH_SIZE = 2_000, 100


@dataclass(frozen=True)
class Predicted:
    """Tokens of all sentences, one after another."""

    true: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    #: Loss of each token (nats).
    losses: npt.NDArray[np.float64]
    #: Tokens of each sentence.
    lengths: npt.NDArray[np.int64]

    @property
    def first(self) -> npt.NDArray[np.int64]:
        """Return the place of each sentence's first token."""
        return np.cumsum(self.lengths) - self.lengths


def predict(learner: Learner, part: Mapping[str, Array]) -> Predicted:
    """Return the predictions of a part; the rows of a sentence are joined."""
    true, predicted, losses = list[Array](), list[Array](), list[Array]()
    for start in range(0, len(part["tokens"]), _ROWS):
        tags = np.asarray(part["tags"][start : start + _ROWS], np.int64)
        here = tags >= 0
        probabilities = learner.predict(part["tokens"][start : start + _ROWS], BATCH_SIZE)[here]
        wanted = tags[here]
        true.append(wanted)
        predicted.append(probabilities.argmax(axis=1).astype(np.int64))
        chosen = probabilities[np.arange(len(wanted)), wanted].astype(np.float64)
        losses.append(-np.log(np.clip(chosen, 1e-12, 1.0)))
    lengths = np.bincount(part["sentence"], (np.asarray(part["tags"]) >= 0).sum(axis=1)).astype(np.int64)
    return Predicted(np.concatenate(true), np.concatenate(predicted), np.concatenate(losses), lengths)
