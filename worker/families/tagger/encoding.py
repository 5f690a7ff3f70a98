"""Words as numbers: the word's place in the vocabulary, and its affixes' places in a table of embeddings.

A token is int32 [features]: the word's id plus one (so that 0 is padding), then the row of each affix. An affix's row
follows from its text alone, by a hash, so that words that the training part does not have get theirs, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from shared.datasets.ingest.vocabulary import TextTokenizer
from worker.families.tagger.family import AFFIXES, BUCKETS

Tokens = npt.NDArray[np.int32]

_SHAPES = ((re.compile(r"[^\W\d_]"), "x"), (re.compile(r"\d"), "d"))
_REPEATED = re.compile(r"(.)\1{2,}")


class WordEncoder:
    """Encodes words of one vocabulary; each different word once."""

    def __init__(self, tokenizer: TextTokenizer, features: int) -> None:
        self._tokenizer, self._features = tokenizer, features
        self._known: dict[str, int] = {}
        self._table = np.zeros((0, features), np.int32)

    def encode(self, words: Sequence[str]) -> Tokens:
        """Return the words as [words, features]."""
        known = self._known
        new = [word for word in dict.fromkeys(words) if word not in known]
        if new:
            known.update(zip(new, range(len(known), len(known) + len(new)), strict=True))
            self._table = np.concatenate([self._table, self._rows(new)])
        return self._table[np.fromiter((known[word] for word in words), np.int64, len(words))]

    def _rows(self, words: list[str]) -> Tokens:
        ids = self._tokenizer.encode(" ".join(words)).astype(np.int32) + 1
        if self._features == 1:
            return ids[:, None]
        return np.concatenate([ids[:, None], np.array([_affix_rows(word) for word in words], np.int32)], 1)


def affixes(word: str) -> tuple[str, ...]:
    """Return the texts of a word's affixes, in the order of `AFFIXES`."""
    lower = word.lower()
    return (lower, lower[:3], lower[-3:], lower[-2:], shape(word))


def shape(word: str) -> str:
    """Return the shape of a word: X and x for letters, d for digits; more than two of one stand for any number."""
    found = "".join("X" if character.isupper() else _kind(character) for character in word[:100])
    return _REPEATED.sub(r"\1\1", found)


def _kind(character: str) -> str:
    return next((mark for pattern, mark in _SHAPES if pattern.match(character)), character)


def _affix_rows(word: str) -> list[int]:
    return [
        place * BUCKETS + crc32(text.encode()) % BUCKETS
        for place, text in zip(range(len(AFFIXES)), affixes(word), strict=True)
    ]


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
