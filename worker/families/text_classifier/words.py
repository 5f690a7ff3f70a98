"""Texts as rows of word numbers, for models that read the affixes of words, too."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array
from shared.datasets.ingest.vocabulary import EOS, UNK, WordTokenizer
from worker.training.words.affixes import AFFIXES
from worker.training.words.encoder import NO_AFFIX, Tokens, WordEncoder

#: Texts whose words are held at a time.
_AT_ONCE = 2_000


class WordNumbers(np.ndarray[Any, np.dtype[np.int32]]):
    """Rows [n, length] of word numbers plus one, 0 after a text's end, with the table that the numbers are places in.

    So a position takes four bytes, and not those of all affixes. What is selected of the rows keeps the table. Number 0
    is `<unk>` without affixes, as token 0 is of rows of tokens.
    """

    #: `WordEncoder.table`.
    table: Tokens

    @classmethod
    def of(cls, rows: npt.NDArray[np.int32], table: Tokens) -> Self:
        """Return rows with their table."""
        found = rows.view(cls)
        found.table = table
        return found

    def __array_finalize__(self, source: Any) -> None:
        if (table := getattr(source, "table", None)) is not None:
            self.table = table

    def network_input(self) -> Tokens:
        """Return the rows as an ONNX network reads them: [n, length, features], 0 and no affixes after a text's end."""
        numbers = np.asarray(self)
        found = self.table[np.maximum(numbers - 1, 0)]
        found[numbers == 0] = [0, *[NO_AFFIX] * (self.table.shape[1] - 1)]
        return found


def table_of(x: Array) -> Tokens:
    """Return the table of rows. Raises ValueError for rows of tokens."""
    if not isinstance(x, WordNumbers):
        raise ValueError("a model with affixes reads word numbers with their table (WordNumbers), not tokens")
    return x.table


class NumberedTexts:
    """Encodes the beginnings of texts: the words as a tokenizer splits them, each different one numbered."""

    def __init__(self, tokenizer: WordTokenizer, length: int) -> None:
        self._tokenizer, self._length = tokenizer, length
        self._encoder = WordEncoder(tokenizer, 1 + len(AFFIXES), bare=(UNK, EOS))

    @property
    def table(self) -> Tokens:
        """Return the table of the words so far."""
        return self._encoder.table

    def numbers(self, texts: Iterable[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the numbers of the first words of all texts, and the bounds of each text among them."""
        flat, lengths = [np.empty(0, np.int64)], [0]
        left = iter(texts)
        while words := [self._tokenizer.split(text, self._length) for text in islice(left, _AT_ONCE)]:
            lengths += map(len, words)
            flat.append(self._encoder.number(list(chain.from_iterable(words))))
        return np.concatenate(flat), np.cumsum(lengths)
