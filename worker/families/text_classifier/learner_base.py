"""The part of the text classifiers that is the same in both frameworks: data, noise, prediction in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array, LearnerSetup
from worker.families.text_classifier.batches import Texts, lengths_of, noisy, texts
from worker.families.text_classifier.family import TextClassifierModel
from worker.families.text_classifier.words import table_of
from worker.training.backends.base_learner import BaseLearner
from worker.training.numerics.dropout import dropout_mask
from worker.training.words.encoder import Tokens


class TextClassifierLearner(BaseLearner):
    """Base of `TorchTextClassifier` and `TensorflowTextClassifier`, before the base class of the framework.

    The `facts` of its setup: `classes` (names), `vocabulary` (size), optionally `frozen` (prefixes of fixed weights).
    """

    model: TextClassifierModel
    MEASURED = ("loss", "accuracy")

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.classes = len(setup.facts["classes"])
        self.vocabulary = int(setup.facts["vocabulary"])
        self.data: tuple[Array, Array] = (np.zeros((0, 1), np.int32), np.zeros(0, np.int64))

    def set_data(self, split: Mapping[str, Array]) -> None:
        """Set `x` and `y`, whose rows are selected on the host: a batch of tokens is some kilobytes."""
        self.data = split["x"], split["y"]

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return probabilities [n, classes], float32, computed in float32 so that both frameworks agree."""
        found = np.empty((len(inputs), self.classes), np.float32)
        begun = ((rows, self._probabilities(batch)) for rows, batch in self._by_length(inputs, batch_size))
        for rows, fetch in self._late(begun):
            found[rows] = fetch()
        return found

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        y = split["y"]
        totals: Any = 0.0
        for rows, batch in self._by_length(split["x"], batch_size):
            totals += self._totals_of(batch, np.asarray(y)[rows])
        loss, correct = map(float, totals / len(y))
        return {"loss": loss, "accuracy": correct}

    def _probabilities(self, batch: Texts) -> Callable[[], Array]:
        """Begin to compute the probabilities of the columns of a batch; return what fetches them, [batch, classes]."""
        raise NotImplementedError

    def _totals_of(self, batch: Texts, y: Array) -> Any:
        """Return the summed loss and the number of correct predictions, on the device: float64 [2]."""
        raise NotImplementedError

    def _batch(self, rows: npt.NDArray[np.int64], step: int) -> tuple[Texts, npt.NDArray[np.int64]]:
        """Return the texts of a training step with their noise, and their labels."""
        x, y = self.data
        read = np.asarray(x[rows])
        if self.training.augment:
            read = noisy(read[:, : int(lengths_of(read).max())], self.training.augment, self.training.seed, step)
        batch = texts(read, self._table(x), self.model.ngrams)
        return batch, np.asarray(y[rows[batch.order]], np.int64)

    def _by_length(self, x: Array, batch_size: int) -> Iterator[tuple[npt.NDArray[np.int64], Texts]]:
        """Yield batches of rows of similar length, and which rows they are, in the order of their columns."""
        lengths = np.concatenate([lengths_of(x[at : at + 10_000]) for at in range(0, max(1, len(x)), 10_000)])
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(x), batch_size):
            rows = np.sort(order[start : start + batch_size])
            batch = texts(x[rows], self._table(x), self.model.ngrams)
            yield rows[batch.order], batch

    def _table(self, x: Array) -> Tokens | None:
        """Return the table of the words whose numbers are in rows; None: they are tokens."""
        return table_of(x) if self.model.affixes else None

    def _dropped_widths(self) -> list[int]:
        """Return the widths of the layers with dropout: embedding, recurrent and dense layers."""
        ways = 2 if self.model.bidirectional else 1
        model = self.model
        widths = [model.embedding, *(units * ways for units in model.units), *model.dense]
        return widths if model.dropout else []

    def _masks(self, step: int, n: int) -> list[Any]:
        """Return the dropout masks [n, width] of a step: an embedding's unit is dropped from all tokens of a text.

        (Gal & Ghahramani 2016).
        """
        return [
            dropout_mask(self.training.seed, f"dropout{i}", step, (n, width), self.model.dropout)
            for i, width in enumerate(self._dropped_widths())
        ]
