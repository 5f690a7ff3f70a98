"""Small sentences with tags that can be learned: what a name is follows from the words around it.

Names are made of random syllables, so most of the test part's names are not in the training part.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from shared.datasets.ingest.build_text import TAG_TYPE, Block, TextSource, TextSplit, TokenTags, store_text

Sentence = list[tuple[str, str]]

_SYLLABLES = ("ba", "ke", "lo", "mi", "nu", "ra", "se", "to", "vi", "zu")
#: Words and, in capitals, names of a type.
_TEMPLATES = (
    "mr. PER said nothing .",
    "PER and PER met near LOC .",
    "the people of LOC like PER .",
    "shares of ORG inc. fell in LOC .",
    "she works for ORG inc. today .",
    "it was cold in LOC , said mr. PER .",
    "nothing happened today .",
)
_TYPES = {"PER", "LOC", "ORG"}


def sentences(count: int, seed: int = 0) -> list[Sentence]:
    """Return sentences of words and their tags in IOB2."""
    draw = np.random.Generator(np.random.Philox(key=seed))
    return [_sentence(draw) for _ in range(count)]


def _sentence(draw: np.random.Generator) -> Sentence:
    found: Sentence = []
    for word in _TEMPLATES[int(draw.integers(len(_TEMPLATES)))].split():
        if word in _TYPES:
            parts = ["".join(draw.choice(_SYLLABLES, 3)).capitalize() for _ in range(int(draw.integers(1, 3)))]
            found += [(part, f"{'I' if place else 'B'}-{word}") for place, part in enumerate(parts)]
        else:
            found.append((word, "O"))
    return found


def stored(root: Path, parts: dict[str, list[Sentence]]) -> Path:
    """Store sentences as a data set below a folder and return its folder."""
    names = sorted({tag for some in parts.values() for sentence in some for _, tag in sentence})
    source = TextSource({part: _split(some, names) for part, some in parts.items()}, tokenised=True, tags=names)
    return store_text(root, source).folder


def _split(some: Sequence[Sentence], names: list[str]) -> TextSplit:
    ids = np.array([names.index(tag) for sentence in some for _, tag in sentence], TAG_TYPE)
    lengths = np.array([len(sentence) for sentence in some], np.int64)
    texts = [" ".join(token for token, _ in sentence).encode() + b"\n" for sentence in some]
    return TextSplit(partial(map, _block, texts), tags=TokenTags(ids, lengths))


def _block(text: bytes) -> Block:
    return Block(text, [len(text)])


def store(root: Path) -> Path:
    """Store the sentences that the conformance kit uses."""
    return stored(root, {"train": sentences(200), "test": sentences(60, seed=1)})
