"""The part of the taggers that is the same in both frameworks: batches, noise, masks, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array, LearnerSetup
from worker.families.tagger.entities import TagScheme, f1, have_entities
from worker.families.tagger.family import TaggerModel
from worker.training.backends.base_learner import BaseLearner
from worker.training.numerics.dropout import dropout_mask
from worker.training.numerics.recurrent import RightPadded, longest_first
from worker.training.numerics.word_noise import UNKNOWN, add_token_noise


@dataclass(frozen=True)
class Batch:
    """Rows cut to the longest one, sorted by length, with time first."""

    tokens: npt.NDArray[np.int64]  # [time, batch, features]; 0 at padding
    tags: npt.NDArray[np.int64]  # [time, batch]; -1 at padding
    lengths: npt.NDArray[np.int64]
    #: The given row that each column was.
    order: npt.NDArray[np.int64]

    @property
    def padding(self) -> RightPadded:
        """Return the lengths as the recurrent layers take them."""
        return RightPadded(self.lengths, len(self.tokens))


class TaggerLearner(BaseLearner):
    """Base of `TorchTagger` and `TensorflowTagger`, before the base class of the framework.

    The `facts` of its setup: `tags` (names), `vocabulary` (size), optionally `frozen` (prefixes of fixed weights).
    """

    model: TaggerModel
    #: Means over the tokens of a step.
    MEASURED = ("loss", "accuracy")

    def __init__(self, setup: LearnerSetup) -> None:
        super().__init__(setup)
        self.names, self.vocabulary = list(setup.facts["tags"]), int(setup.facts["vocabulary"])
        self.data: tuple[Array, Array] = (np.zeros((0, 1, self.model.features), np.int32), np.zeros((0, 1), np.int32))

    def set_data(self, split: Mapping[str, Array]) -> None:
        """Set `tokens` and `tags`, whose rows are selected on the host: a batch is some kilobytes."""
        self.data = split["tokens"], split["tags"]

    def evaluate(self, split: Mapping[str, Array], batch_size: int) -> dict[str, float]:
        """Return loss and accuracy per token and, if the tags mark entities, their F1."""
        tags, totals = np.asarray(split["tags"]), np.zeros(3)
        predicted = np.zeros_like(tags)
        for rows, batch in _by_length(split["tokens"], tags, batch_size):
            found, sums = self._judged(batch)
            predicted[rows, : found.shape[1]] = found
            totals += sums
        loss, correct, count = totals.tolist()
        found_f1 = {"f1_entity": self._f1(split, predicted)} if have_entities(self.names) else {}
        return {"loss": loss / count, "accuracy": correct / count, **found_f1}

    def predict(self, inputs: Array, batch_size: int) -> Array:
        """Return the probabilities of the tags: tokens [n, longest, features] to float32 [n, longest, tags].

        They are 0 at padding. Computed in float32, so that both frameworks agree.
        """
        found = np.zeros((*inputs.shape[:2], len(self.names)), np.float32)
        batches = _by_length(inputs, None, batch_size)
        for rows, batch, fetch in self._late((rows, batch, self._probabilities(batch)) for rows, batch in batches):
            here = np.arange(len(batch.tokens)) < batch.lengths[:, None]
            found[rows, : len(batch.tokens)] = np.where(here[..., None], fetch(), 0)
        return found

    def _judged(self, batch: Batch) -> tuple[Array, Array]:
        """Return the likeliest tags [batch, time], and the sums of loss, correct tokens and tokens."""
        raise NotImplementedError

    def _probabilities(self, batch: Batch) -> Callable[[], Array]:
        """Begin to compute the probabilities of the tags; return what fetches them, [batch, time, tags]."""
        raise NotImplementedError

    def _f1(self, split: Mapping[str, Array], predicted: Array) -> float:
        tags = np.asarray(split["tags"])
        here = tags >= 0
        lengths = np.bincount(split["sentence"] - np.min(split["sentence"]), here.sum(axis=1)).astype(np.int64)
        counts = TagScheme(self.names).count(tags[here], predicted[here], lengths[lengths > 0])
        return float(f1(counts.both.sum(), counts.true.sum(), counts.predicted.sum()))

    # -- a training step ----------------------------------------------------------------------------

    def _batch(self, rows: npt.NDArray[np.int64], step: int) -> Batch:
        """Return the rows of a training step with their noise."""
        tokens, tags = (array[rows] for array in self.data)
        if self.training.augment:  # affixes stay, so a tagger learns to tag words that it does not know
            words, seed = tokens[..., 0], self.training.seed
            tokens[..., 0] = add_token_noise(
                words, self.training.augment, seed, step, here=words > 0, unknown=UNKNOWN + 1
            )
        return batch_of(tokens, tags)

    def _dropped_widths(self) -> list[int]:
        """Return the widths of what has dropout: what the first layer reads, and the outputs of each layer."""
        widths = [self.model.read_width, *(self.model.ways * units for units in self.model.units)]
        return widths if self.model.dropout else []

    def _masks(self, step: int, rows: int) -> list[npt.NDArray[np.bool_]]:
        """Return the dropout masks [batch, width] of a step: a unit is dropped from all tokens of a row.

        (Gal & Ghahramani 2016).
        """
        return [
            dropout_mask(self.training.seed, f"dropout{i}", step, (rows, width), self.model.dropout)
            for i, width in enumerate(self._dropped_widths())
        ]


def batch_of(tokens: Array, tags: Array | None) -> Batch:
    """Return rows [n, longest, features] as a batch."""
    lengths = np.count_nonzero(tokens[..., 0], axis=1).astype(np.int64)
    order = longest_first(lengths)
    lengths = lengths[order]
    time = int(lengths[0])
    columns = np.ascontiguousarray(tokens[order, :time].swapaxes(0, 1), np.int64)
    if tags is None:
        return Batch(columns, np.zeros((time, len(order)), np.int64), lengths, order)
    return Batch(columns, np.ascontiguousarray(tags[order, :time].T, np.int64), lengths, order)


def _by_length(tokens: Array, tags: Array | None, batch_size: int) -> Iterator[tuple[npt.NDArray[np.int64], Batch]]:
    """Yield batches of rows of similar length, and the row that each column was."""
    lengths: Any = np.count_nonzero(tokens[..., 0], axis=1)
    order = longest_first(lengths)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, batch_of(tokens[rows], None if tags is None else tags[rows])
