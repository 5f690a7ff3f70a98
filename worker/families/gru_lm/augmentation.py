"""Deletion of words from the windows of a language model, in numpy: the same in both frameworks.

`word_deletion` takes a token out of what is read, and the token that follows it out of what is predicted: every token
that is read still predicts the one that truly follows it, after a text that lacks words. What else there is stands in
`worker.training.numerics.word_noise`.
"""

from __future__ import annotations

import numpy as np

from nightshift.families.learner import Array
from worker.training.numerics.word_noise import kept_words


def delete_tokens(windows: Array, following: Array, seed: int, step: int) -> tuple[Array, Array]:
    """Return what is read and predicted [n, window] of windows [n, window + 1] from which tokens are deleted.

    What is left moves up; the windows after them fill the end, so that every step learns from as many tokens.
    """
    n, window = windows.shape[0], windows.shape[1] - 1
    kept = kept_words((n, window), seed, step)
    kept = np.concatenate([kept, np.ones((n, window), bool)], 1)
    places = np.argsort(~kept, axis=1, kind="stable")[:, :window]
    read = np.concatenate([windows[:, :-1], following[:, :-1]], 1)
    predicted = np.concatenate([windows[:, 1:], following[:, 1:]], 1)
    return np.take_along_axis(read, places, 1), np.take_along_axis(predicted, places, 1)
