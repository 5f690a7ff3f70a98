"""Noise on the input tokens of a step (never on its targets), in numpy: the same in both frameworks.

`word_dropout` replaces a token by `<unk>`, `word_replacement` by another token of the batch, and so in proportion to
frequency (unigram noising, Xie et al. 2017).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nightshift.families.learner import Array
from worker.training.numerics.data_order import generator

#: Id of `<unk>` in every tokenizer (shared.datasets.ingest.vocabulary).
UNKNOWN = 0
#: Share of the input tokens that are dropped, and that are replaced.
WORD_DROPOUT, WORD_REPLACEMENT = 0.1, 0.1


def add_token_noise(tokens: Array, augment: Collection[str], seed: int, step: int) -> Array:
    """Return tokens [n, window] with the noise of this step.

    All random numbers are drawn even if `augment` does not use them.
    """
    draw = generator(seed, "words", step)
    dropped, replaced = draw.random(tokens.shape), draw.random(tokens.shape)
    others = tokens.reshape(-1)[(draw.random(tokens.shape) * tokens.size).astype(np.int64)]
    if "word_replacement" in augment:
        tokens = np.where(replaced < WORD_REPLACEMENT, others, tokens)
    if "word_dropout" in augment:
        tokens = np.where(dropped < WORD_DROPOUT, tokens.dtype.type(UNKNOWN), tokens)
    return tokens
