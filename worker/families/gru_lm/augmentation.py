"""Noise on the tokens a step reads (never on those it must predict), in numpy: the same in every framework.

`word_dropout` replaces a token by `<unk>`, `word_replacement` by another of the batch, and so by frequency
(unigram noising, Xie et al. 2017).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from worker.training.learner import Array
from worker.training.numerics.data_order import generator

#: Id of `<unk>` in every tokenizer (shared.datasets.ingest.vocabulary).
UNKNOWN = 0
#: Share of the tokens read that are dropped, and that are replaced.
WORD_DROPOUT, WORD_REPLACEMENT = 0.1, 0.1


def add_token_noise(tokens: Array, augment: Collection[str], seed: int, step: int) -> Array:
    """Tokens [n, window] with this step's noise. Every draw is made whatever is asked for."""
    draw = generator(seed, "words", step)
    dropped, replaced = draw.random(tokens.shape), draw.random(tokens.shape)
    others = tokens.reshape(-1)[(draw.random(tokens.shape) * tokens.size).astype(np.int64)]
    if "word_replacement" in augment:
        tokens = np.where(replaced < WORD_REPLACEMENT, others, tokens)
    if "word_dropout" in augment:
        tokens = np.where(dropped < WORD_DROPOUT, tokens.dtype.type(UNKNOWN), tokens)
    return tokens
