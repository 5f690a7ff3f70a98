"""Sentences as rows."""

from __future__ import annotations

import numpy as np

from worker.families.tagger.encoding import padded, pieces


def test_long_sentences_become_several_rows() -> None:
    lengths, sentence = pieces(np.array([3, 8, 0, 4]), 4)
    assert lengths.tolist() == [3, 4, 4, 4]
    assert sentence.tolist() == [0, 1, 1, 3]
    lengths, sentence = pieces(np.array([5]), 4)
    assert (lengths.tolist(), sentence.tolist()) == ([4, 1], [0, 0])


def test_rows_are_padded_to_the_longest() -> None:
    flat = np.arange(1, 6, dtype=np.int32)
    assert padded(flat, np.array([2, 3]), -1).tolist() == [[1, 2, -1], [3, 4, 5]]
