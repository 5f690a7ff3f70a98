"""Sizes of text in tokens."""

from __future__ import annotations

#: Smallest byte-pair vocabulary: the bytes and two special tokens.
SMALLEST_BPE = 258


def window_count(tokens: int, window: int) -> int:
    """Return the number of whole windows, each with the token that follows it; the rest is not used."""
    return max(0, tokens - 1) // window
