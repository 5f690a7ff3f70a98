"""Noise on the tokens of a training step, in numpy: the same in both frameworks.

`word_dropout` replaces a token by `<unk>`, `word_replacement` by another token of the batch, and so in proportion to
frequency (unigram noising, Xie et al. 2017). `word_deletion` takes tokens out (random deletion, Wei & Zou 2019).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array
from worker.training.numerics.data_order import generator

#: The kinds of noise, names for `training.augment`.
WORD_NOISE = frozenset({"word_deletion", "word_dropout", "word_replacement"})
#: Id of `<unk>` in every tokenizer (shared.datasets.ingest.vocabulary).
UNKNOWN = 0
#: Share of the tokens that are dropped, replaced, and deleted.
WORD_DROPOUT, WORD_REPLACEMENT, WORD_DELETION = 0.1, 0.1, 0.1


def add_token_noise(
    tokens: Array,
    augment: Collection[str],
    seed: int,
    step: int,
    *,
    here: npt.NDArray[np.bool_] | None = None,
    unknown: int = UNKNOWN,
) -> Array:
    """Return tokens [n, length] with the drops and replacements of this step, of `here` where it is given.

    `unknown` is what stands for `<unk>`. All random numbers are drawn even if `augment` does not use them.
    """
    draw = generator(seed, "words", step)
    dropped, replaced, picked = (draw.random(tokens.shape) for _ in range(3))
    inside = np.ones(tokens.shape, bool) if here is None else here
    if "word_replacement" in augment:
        pool = tokens[inside]
        tokens = np.where(inside & (replaced < WORD_REPLACEMENT), pool[(picked * len(pool)).astype(np.int64)], tokens)
    if "word_dropout" in augment:
        tokens = np.where(inside & (dropped < WORD_DROPOUT), tokens.dtype.type(unknown), tokens)
    return tokens


def kept_words(shape: tuple[int, int], seed: int, step: int) -> npt.NDArray[np.bool_]:
    """Return which tokens [n, length] of a step `word_deletion` keeps."""
    return generator(seed, "word_deletion", step).random(shape) >= WORD_DELETION
