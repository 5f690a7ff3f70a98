"""The data set of the family's trial: short labelled texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.datasets.ingest.build_text import Block, TextSource, TextSplit, store_text

_WORDS = (("cats", "dogs", "birds"), ("rain", "snow", "wind"), ("one", "two", "three"))
_SAID = ("the", "saw", "and", "near", "of")


def store(root: Path) -> Path:
    """Store 900 texts of three classes in a folder and return their folder."""
    draw = np.random.default_rng(0)

    def part(count: int) -> TextSplit:
        labels = np.arange(count, dtype=np.int64) % len(_WORDS)
        data = b"".join(_text(draw, int(label)) for label in labels)
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        return TextSplit(lambda: iter([Block(data, ends.tolist())]), labels)

    parts = {"train": part(800), "test": part(100)}
    return store_text(root, TextSource(parts, ["animals", "weather", "numbers"])).folder


def _text(draw: np.random.Generator, label: int) -> bytes:
    """Return a line of 1 to 15 words, of which every third is of the class."""
    own, count = _WORDS[label], int(draw.integers(1, 16))
    words = [str(draw.choice(_SAID if i % 3 else own)) for i in range(count)]
    return " ".join(words).encode() + b"\n"
