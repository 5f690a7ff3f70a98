"""Batches of texts: cut to the longest row, sorted by length, with the noise of a training step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array
from worker.training.numerics.data_order import generator
from worker.training.numerics.recurrent import RightPadded, longest_first

#: Id of `<unk>` in every tokenizer (shared.datasets.ingest.vocabulary).
UNKNOWN = 0
#: Share of the tokens that are dropped, and that are replaced.
WORD_DROPOUT, WORD_REPLACEMENT = 0.1, 0.1


@dataclass(frozen=True)
class Texts:
    """Token ids [time, batch] with 0 at padding, and what rows they come from."""

    tokens: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    #: The row of the given batch that each column was.
    order: npt.NDArray[np.int64]

    @property
    def padding(self) -> RightPadded:
        """Return the lengths as the recurrent layers take them."""
        return RightPadded(self.lengths, len(self.tokens))


def texts(x: Array, lengths: npt.NDArray[np.int64] | None = None) -> Texts:
    """Return the batch of rows [n, length] of token ids plus one, with 0 after a text's end."""
    lengths = lengths_of(x) if lengths is None else lengths
    order = longest_first(lengths)
    lengths = lengths[order]
    columns = np.ascontiguousarray(x[order, : int(lengths[0])].T, np.int64) - 1
    return Texts(np.maximum(columns, 0), lengths, order)


def lengths_of(x: Array) -> npt.NDArray[np.int64]:
    """Return the number of tokens of each row."""
    found: npt.NDArray[np.int64] = np.count_nonzero(x, axis=1).astype(np.int64)
    return found


def noisy(x: Array, augment: Collection[str], seed: int, step: int) -> Array:
    """Return the rows [n, length] of a step with the noise on their tokens: the same in both frameworks.

    `word_dropout` replaces a token by `<unk>`, `word_replacement` by another one of the batch, and so in proportion to
    frequency (unigram noising, Xie et al. 2017). All random numbers are drawn even if `augment` does not use them.
    """
    draw = generator(seed, "words", step)
    dropped, replaced, picked = (draw.random(x.shape) for _ in range(3))
    here = x > 0
    if "word_replacement" in augment:
        tokens = x[here]
        others = tokens[(picked * len(tokens)).astype(np.int64)]
        x = np.where(here & (replaced < WORD_REPLACEMENT), others, x)
    if "word_dropout" in augment:
        x = np.where(here & (dropped < WORD_DROPOUT), x.dtype.type(UNKNOWN + 1), x)
    return x
