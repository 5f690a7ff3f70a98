"""Noise on the input tokens of a step (never on its targets), in numpy: the same in both frameworks.

`word_dropout` replaces a token by `<unk>`, `word_replacement` by another token of the batch, and so in proportion to
frequency (unigram noising, Xie et al. 2017). `word_deletion` takes a token out of what is read, and the token that
follows it out of what is predicted (random deletion, Wei & Zou 2019): every token that is read still predicts the one
that truly follows it, after a text that lacks words.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nightshift.families.learner import Array
from worker.training.numerics.data_order import generator

#: Id of `<unk>` in every tokenizer (shared.datasets.ingest.vocabulary).
UNKNOWN = 0
#: Share of the input tokens that are dropped, replaced, and deleted.
WORD_DROPOUT, WORD_REPLACEMENT, WORD_DELETION = 0.1, 0.1, 0.1


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


def delete_tokens(windows: Array, following: Array, seed: int, step: int) -> tuple[Array, Array]:
    """Return what is read and predicted [n, window] of windows [n, window + 1] from which tokens are deleted.

    What is left moves up; the windows after them fill the end, so that every step learns from as many tokens.
    """
    n, window = windows.shape[0], windows.shape[1] - 1
    kept = generator(seed, "word_deletion", step).random((n, window)) >= WORD_DELETION
    kept = np.concatenate([kept, np.ones((n, window), bool)], 1)
    places = np.argsort(~kept, axis=1, kind="stable")[:, :window]
    read = np.concatenate([windows[:, :-1], following[:, :-1]], 1)
    predicted = np.concatenate([windows[:, 1:], following[:, 1:]], 1)
    return np.take_along_axis(read, places, 1), np.take_along_axis(predicted, places, 1)
