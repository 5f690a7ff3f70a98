"""Words as numbers: the word's place in the vocabulary, and its affixes' rows in the table of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.datasets.ingest.vocabulary import TextTokenizer
from worker.training.words.affixes import AFFIXES, affix_rows

Tokens = npt.NDArray[np.int32]

#: Stands for the row of an affix in words that have none.
NO_AFFIX = -1


class WordEncoder:
    """Encodes words of one vocabulary; each different word once.

    A word is int32 [features]: its id plus one (so that 0 is padding), then, with more than one feature, the row of
    each affix. Different words are numbered from 0 on; the words `bare`, which have no affixes, are the first.
    """

    def __init__(self, tokenizer: TextTokenizer, features: int, bare: Sequence[str] = ()) -> None:
        self._tokenizer, self._features, self._bare = tokenizer, features, frozenset(bare)
        self._known: dict[str, int] = {}
        self._tables: list[Tokens] = [np.zeros((0, features), np.int32)]
        self.number(bare)

    @property
    def table(self) -> Tokens:
        """Return the words by their number, [words so far, features]."""
        if len(self._tables) > 1:
            self._tables = [np.concatenate(self._tables)]
        return self._tables[0]

    def encode(self, words: Sequence[str]) -> Tokens:
        """Return the words as [words, features]."""
        numbers = self.number(words)
        return self.table[numbers]

    def number(self, words: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of each word, its place in `table`."""
        known = self._known
        new = [word for word in dict.fromkeys(words) if word not in known]
        if new:
            known.update(zip(new, range(len(known), len(known) + len(new)), strict=True))
            self._tables.append(self._rows(new))
        return np.fromiter((known[word] for word in words), np.int64, len(words))

    def _rows(self, words: list[str]) -> Tokens:
        ids = self._tokenizer.encode(" ".join(words)).astype(np.int32) + 1
        if self._features == 1:
            return ids[:, None]
        return np.concatenate([ids[:, None], np.array([self._affixes(word) for word in words], np.int32)], 1)

    def _affixes(self, word: str) -> list[int]:
        return [NO_AFFIX] * len(AFFIXES) if word in self._bare else affix_rows(word)
