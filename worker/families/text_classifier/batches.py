"""Batches of texts: cut to the longest row, sorted by length, with the noise of a training step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array
from worker.families.text_classifier.ngrams import ngram_rows
from worker.training.numerics.recurrent import RightPadded, longest_first
from worker.training.numerics.word_noise import UNKNOWN, add_token_noise, kept_words
from worker.training.words.encoder import Tokens


@dataclass(frozen=True)
class Texts:
    """Token ids [time, batch] with 0 at padding, and what rows they come from."""

    tokens: npt.NDArray[np.int64]
    #: The row of each affix of each token [time, batch, affixes], `NO_AFFIX` where it has none; no affixes: width 0.
    affixes: npt.NDArray[np.int64]
    #: The row of each n-gram that ends at each token [time, batch, n-grams]; none: width 0.
    ngrams: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    #: The row of the given batch that each column was.
    order: npt.NDArray[np.int64]

    @property
    def padding(self) -> RightPadded:
        """Return the lengths as the recurrent layers take them."""
        return RightPadded(self.lengths, len(self.tokens))


def texts(x: Array, table: Tokens | None = None, longest: int = 0) -> Texts:
    """Return the batch of rows [n, length] of token ids plus one, with 0 after a text's end.

    `longest` is the number of tokens of the longest n-grams. With a table they are rows of word numbers plus one
    (`WordNumbers`), and what the words consist of stands there.
    """
    x = np.asarray(x)
    lengths = lengths_of(x)
    order = longest_first(lengths)
    lengths = lengths[order]
    columns = np.maximum(np.ascontiguousarray(x[order, : int(lengths[0])].T, np.int64) - 1, 0)
    words = columns[..., None] + 1 if table is None else table[columns].astype(np.int64)
    tokens = words[..., 0] - 1
    return Texts(tokens, words[..., 1:], ngram_rows(tokens, longest), lengths, order)


def lengths_of(x: Array) -> npt.NDArray[np.int64]:
    """Return the number of tokens of each row."""
    found: npt.NDArray[np.int64] = np.count_nonzero(np.asarray(x), axis=1).astype(np.int64)
    return found


def noisy(x: Array, augment: Collection[str], seed: int, step: int) -> Array:
    """Return the rows [n, length] of a step with the noise on their tokens. At least one token of a row is left.

    Of word numbers, too: a dropped word has no affixes, a replaced one those of the word that stands for it.
    """
    x = np.asarray(x)
    if "word_deletion" in augment:
        x = _without(x, (x > 0) & ~kept_words(x.shape, seed, step))
    return add_token_noise(x, augment, seed, step, here=x > 0, unknown=UNKNOWN + 1)


def _without(x: Array, deleted: npt.NDArray[np.bool_]) -> Array:
    """Take tokens out of rows, of which the rest moves up. The first token of a row stays if all would go."""
    deleted[:, 0] &= (deleted != (x > 0)).any(axis=1)
    left = np.where(deleted, 0, x)
    return np.take_along_axis(left, np.argsort(left == 0, axis=1, kind="stable"), 1)
