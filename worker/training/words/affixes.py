"""Affixes of a word: what is known of it even if the training part does not have it.

Each affix has a row in a table of embeddings, [affixes * BUCKETS, width]. The row follows from the affix's text alone,
by a hash, so that unknown words have rows, too.
"""

from __future__ import annotations

import re
from zlib import crc32

#: Affixes, and the rows that each has in the table of their embeddings. Two words may share a row. Too low: many do.
#: Too high: rows are seen too rarely to be learned.
AFFIXES, BUCKETS = ("lower", "prefix", "suffix", "ending", "shape"), 4_000

_SHAPES = ((re.compile(r"[^\W\d_]"), "x"), (re.compile(r"\d"), "d"))
_REPEATED = re.compile(r"(.)\1{2,}")


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


def affix_rows(word: str) -> list[int]:
    """Return the row of each affix of a word."""
    return [
        place * BUCKETS + crc32(text.encode()) % BUCKETS
        for place, text in zip(range(len(AFFIXES)), affixes(word), strict=True)
    ]
