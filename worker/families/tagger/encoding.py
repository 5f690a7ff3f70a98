"""Sentences as rows of at most so many tokens."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from worker.training.words.encoder import Tokens


def pieces(lengths: npt.NDArray[np.int64], most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut sentences of these lengths into rows of at most `most` tokens.

    Returns the length of each row and the sentence that it belongs to; a sentence without tokens has no row.
    """
    counts = -(-lengths // most)
    sentence = np.repeat(np.arange(len(lengths)), counts)
    last = np.flatnonzero(np.diff(sentence, append=-1))
    found = np.full(len(sentence), most, np.int64)
    found[last] = lengths[sentence[last]] - (counts[sentence[last]] - 1) * most
    return found, sentence


def padded(values: Tokens, lengths: npt.NDArray[np.int64], padding: int) -> Tokens:
    """Return values [all tokens, …] as rows [rows, longest, …], with `padding` at their ends."""
    rows = np.full((len(lengths), int(lengths.max(initial=1)), *values.shape[1:]), padding, values.dtype)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = values
    return rows


def words_of(texts: Iterable[str]) -> list[list[str]]:
    """Return the tokens of sentences that are separated by single spaces, as sentences with tags are stored."""
    return [text.removesuffix("\n").split(" ") for text in texts]
