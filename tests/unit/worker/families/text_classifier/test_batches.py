"""Batches of texts: sorted, cut, and with noise on their tokens only."""

from __future__ import annotations

import numpy as np
import pytest

from worker.families.text_classifier.batches import lengths_of, noisy, texts
from worker.families.text_classifier.words import WordNumbers, table_of

X = np.array([[5, 6, 0, 0, 0], [7, 8, 9, 3, 0], [4, 0, 0, 0, 0], [2, 3, 0, 0, 0]], np.int32)


def test_a_batch_is_cut_to_its_longest_text_and_sorted() -> None:
    batch = texts(X)
    assert batch.order.tolist() == [1, 0, 3, 2]
    assert batch.lengths.tolist() == [4, 2, 2, 1]
    assert batch.tokens.tolist() == [[6, 4, 1, 3], [7, 5, 2, 0], [8, 0, 0, 0], [2, 0, 0, 0]]
    assert batch.padding.sizes == [4, 3, 1, 1]


def test_word_numbers_stand_for_the_rows_of_their_table() -> None:
    table = np.array([[1, -1, -1], [4, 7, 8], [1, 7, 9]], np.int32)
    rows = WordNumbers.of(np.array([[3, 0], [2, 3], [1, 0]], np.int32), table)
    batch = texts(rows, table_of(rows))
    assert batch.lengths.tolist() == [2, 1, 1]
    assert batch.tokens.tolist() == [[3, 0, 0], [0, 0, 0]]
    assert batch.affixes.tolist() == [[[7, 8], [7, 9], [-1, -1]], [[7, 9], [-1, -1], [-1, -1]]]
    assert texts(X).affixes.shape == (4, 4, 0)


def test_selected_rows_keep_their_table_and_others_have_none() -> None:
    table = np.array([[1, -1]], np.int32)
    rows = WordNumbers.of(np.ones((3, 2), np.int32), table)
    for some in (rows[1:], rows[[2, 0]], rows[:, :1]):
        assert table_of(some) is table
    assert np.asarray(rows).nbytes == 3 * 2 * 4, "four bytes a word"
    with pytest.raises(ValueError, match="WordNumbers"):
        table_of(X)


def many() -> np.ndarray:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 40, 200)
    return np.where(np.arange(40) < lengths[:, None], draw.integers(2, 900, (200, 40)), 0).astype(np.int32)


@pytest.mark.parametrize("augment", [["word_dropout"], ["word_replacement"], ["word_dropout", "word_replacement"]])
def test_noise_changes_a_tenth_of_the_tokens_and_no_padding(augment: list[str]) -> None:
    x = many()
    found = noisy(x, augment, 1, 5)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(lengths_of(found), lengths_of(x))
    changed, tokens = found != x, x > 0
    share = (changed & tokens).sum() / tokens.sum()
    assert share == pytest.approx(0.1 * len(augment), abs=0.015)
    new = found[changed]
    others = set() if augment == ["word_dropout"] else set(x[tokens].tolist())
    assert set(new.tolist()) <= {1, *others}


def test_noise_depends_on_the_step_alone_and_one_kind_on_no_other() -> None:
    x = many()
    np.testing.assert_array_equal(noisy(x, ["word_dropout"], 1, 5), noisy(x, ["word_dropout"], 1, 5))
    assert (noisy(x, ["word_dropout"], 1, 5) != noisy(x, ["word_dropout"], 1, 6)).any()
    both, one = noisy(x, ["word_dropout", "word_replacement"], 1, 5), noisy(x, ["word_dropout"], 1, 5)
    np.testing.assert_array_equal(both == 1, one == 1)
    np.testing.assert_array_equal(noisy(x, [], 1, 5), x)


def test_a_tenth_of_the_tokens_is_deleted_and_the_rest_moves_up() -> None:
    x = many()
    found = noisy(x, ["word_deletion"], 1, 5)
    assert lengths_of(found).min() == 1
    assert lengths_of(found).sum() / lengths_of(x).sum() == pytest.approx(0.9, abs=0.01)
    for row, old in zip(found, x, strict=True):
        tokens, rest = row[: np.count_nonzero(row)], iter(old.tolist())
        assert (tokens > 0).all()
        assert all(token in rest for token in tokens.tolist()), "in their order"
