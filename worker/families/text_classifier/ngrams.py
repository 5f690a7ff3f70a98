"""n-grams of tokens, as rows of a table of weights that are added to a text's logits: [n-grams * BUCKETS, logits].

This is the wide part of Cheng et al. 2016, hashed as in fastText (Joulin et al. 2017). A text's n-grams add the sum of
their weights times `SCALE / sqrt(tokens)`. The n-grams at a text's beginning, cut off by it, differ from those inside.

h_1 = t mod BUCKETS      h_n = (h_{n-1} of the token before * FACTOR + t) mod BUCKETS      row = (n - 1) BUCKETS + h_n

with t, a token's id plus one, and h = 0 before the first token.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Rows for the n-grams of each length, a prime. Too low: many n-grams share a row. Too high: memory of the optimizer.
BUCKETS = 20_011
FACTOR = 1_000_003
#: Factor of the sum. Too low: the weights learn slowly. Too high: they learn the training part by heart.
SCALE = 2.0


def ngram_rows(tokens: npt.NDArray[np.int64], longest: int) -> npt.NDArray[np.int64]:
    """Return the rows [time, batch, longest] of the n-grams that end at each token id of [time, batch]."""
    values = tokens + 1
    found = np.empty((*tokens.shape, longest), np.int64)
    before = np.zeros_like(values)
    for place in range(longest):
        hashed = (before * FACTOR + values) % BUCKETS
        found[..., place] = place * BUCKETS + hashed
        before = np.concatenate([np.zeros_like(hashed[:1]), hashed[:-1]])
    return found
