"""Words as numbers."""

from __future__ import annotations

import numpy as np

from shared.datasets.ingest import vocabulary
from shared.datasets.ingest.vocabulary import EOS, UNK, TokenizerSpec
from worker.training.words.affixes import AFFIXES, affix_rows
from worker.training.words.encoder import NO_AFFIX, WordEncoder

FEATURES = 1 + len(AFFIXES)


def encoder(features: int = FEATURES, bare: tuple[str, ...] = ()) -> WordEncoder:
    tokenizer = vocabulary.train(TokenizerSpec("word", 100), iter(["the cat saw the dog"]), tokenised=True)
    return WordEncoder(tokenizer, features, bare)


def test_a_word_has_its_id_and_the_rows_of_its_affixes() -> None:
    rows = encoder().encode(["the", "Zürich", "the"])
    assert rows.shape == (3, FEATURES)
    assert (rows[0] == rows[2]).all()
    assert rows[:, 0].tolist() == [3, 1, 3], "ids plus one: `the` is the most frequent word, the other one is unknown"
    assert rows[1, 1:].tolist() == affix_rows("Zürich")


def test_unknown_words_with_the_same_ending_share_its_row() -> None:
    first, second = encoder().encode(["Hamburg", "Freiburg"])
    same = dict(zip(AFFIXES, first[1:] == second[1:], strict=True))
    assert same == {"lower": False, "prefix": False, "suffix": True, "ending": True, "shape": True}


def test_without_affixes_a_word_has_its_id_alone() -> None:
    assert encoder(1).encode(["dog", "?"]).shape == (2, 1)


def test_words_are_numbered_once_and_looked_up_in_the_table() -> None:
    one, other = encoder(), encoder()
    assert one.number(["dog", "saw", "dog"]).tolist() == [0, 1, 0]
    assert one.number(["cat", "saw"]).tolist() == [2, 1]
    np.testing.assert_array_equal(one.table, other.encode(["dog", "saw", "cat"]))


def test_bare_words_come_first_and_have_no_affixes() -> None:
    one = encoder(bare=(UNK, EOS))
    assert one.number(["cat", EOS]).tolist() == [2, 1]
    assert one.table[:, 0].tolist() == [1, 2, 3 + 1]
    assert (one.table[:2, 1:] == NO_AFFIX).all()
    assert one.table[2, 1:].tolist() == affix_rows("cat")
