"""Words as numbers, and sentences as rows."""

from __future__ import annotations

import numpy as np

from shared.datasets.ingest import vocabulary
from shared.datasets.ingest.vocabulary import TokenizerSpec
from worker.families.tagger.encoding import WordEncoder, affixes, padded, pieces, shape
from worker.families.tagger.family import AFFIXES, BUCKETS


def encoder(features: int = 1 + len(AFFIXES)) -> WordEncoder:
    return WordEncoder(
        vocabulary.train(TokenizerSpec("word", 100), iter(["the cat saw the dog"]), tokenised=True), features
    )


def test_a_word_has_its_id_and_the_rows_of_its_affixes() -> None:
    rows = encoder().encode(["the", "Zürich", "the"])
    assert rows.shape == (3, 6)
    assert (rows[0] == rows[2]).all()
    assert rows[:, 0].tolist() == [3, 1, 3], "ids plus one: `the` is the most frequent word, the other one is unknown"
    places = rows[:, 1:] // BUCKETS
    assert (places == np.arange(len(AFFIXES))).all(), "each affix has a part of the table of its own"


def test_unknown_words_with_the_same_ending_share_its_row() -> None:
    first, second = encoder().encode(["Hamburg", "Freiburg"])
    same = dict(zip(AFFIXES, first[1:] == second[1:], strict=True))
    assert same == {"lower": False, "prefix": False, "suffix": True, "ending": True, "shape": True}


def test_without_affixes_a_word_has_its_id_alone() -> None:
    assert encoder(1).encode(["dog", "?"]).shape == (2, 1)


def test_affixes_and_shapes() -> None:
    assert affixes("Anna") == ("anna", "ann", "nna", "na", "Xxx")
    assert shape("McDonald's") == "XxXxx'x"
    assert shape("1996-08-22") == "dd-dd-dd"
    assert shape("EU") == "XX"


def test_long_sentences_become_several_rows() -> None:
    lengths, sentence = pieces(np.array([3, 8, 0, 4]), 4)
    assert lengths.tolist() == [3, 4, 4, 4]
    assert sentence.tolist() == [0, 1, 1, 3]
    lengths, sentence = pieces(np.array([5]), 4)
    assert (lengths.tolist(), sentence.tolist()) == ([4, 1], [0, 0])


def test_rows_are_padded_to_the_longest() -> None:
    flat = np.arange(1, 6, dtype=np.int32)
    assert padded(flat, np.array([2, 3]), -1).tolist() == [[1, 2, -1], [3, 4, 5]]
