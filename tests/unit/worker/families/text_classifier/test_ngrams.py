"""The rows of n-grams: equal for equal tokens, others at a text's beginning, and none of another text's tokens."""

from __future__ import annotations

import numpy as np

from worker.families.text_classifier.batches import texts
from worker.families.text_classifier.ngrams import BUCKETS, ngram_rows


def test_equal_ngrams_have_equal_rows_wherever_they_are() -> None:
    rows = ngram_rows(np.array([[3, 8], [5, 3], [3, 5], [5, 9]]), 3)
    assert rows.shape == (4, 2, 3)
    assert rows[0, 0, 0] == rows[2, 0, 0] == rows[1, 1, 0], "3"
    assert rows[1, 0, 1] == rows[3, 0, 1] == rows[2, 1, 1], "3 5"
    assert rows[2, 0, 1] not in rows[[1, 3], 0, 1], "5 3 is not 3 5"
    assert (rows // BUCKETS == np.arange(3)).all()


def test_a_text_begins_with_ngrams_of_its_own() -> None:
    begins, inside = ngram_rows(np.array([[3], [5]]), 3)[1, 0], ngram_rows(np.array([[7], [3], [5]]), 3)[2, 0]
    assert begins[0] == inside[0]
    assert begins[1] == inside[1]
    assert begins[2] != inside[2]
    assert ngram_rows(np.array([[3]]), 2)[0, 0, 1] != inside[1]


def test_largest_ids_do_not_overflow() -> None:
    rows = ngram_rows(np.full((5, 1), 1_000_000), 5)
    assert rows.min() >= 0
    assert rows.max() < 5 * BUCKETS
    assert len({*rows[4, 0].tolist()}) == 5


def test_a_text_has_the_ngrams_of_its_tokens_alone() -> None:
    x = np.array([[5, 6, 0, 0], [7, 8, 9, 3]], np.int32)
    both, one = texts(x, longest=2), texts(x[:1], longest=2)
    np.testing.assert_array_equal(both.ngrams[:2, both.order.tolist().index(0)], one.ngrams[:, 0])
    assert texts(x).ngrams.shape == (4, 2, 0)
