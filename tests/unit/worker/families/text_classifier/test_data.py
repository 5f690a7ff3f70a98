"""Labelled texts as rows of token ids: cut, padded, and divided into parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.training import Training
from nightshift.testing.datasets import store_given, store_tale
from shared.errors import BadData
from worker.families.text_classifier.data import encode, load_splits, load_test, numbered, padded
from worker.families.text_classifier.family import TextClassifierModel
from worker.families.text_classifier.words import WordNumbers
from worker.training.words.affixes import AFFIXES, affix_rows
from worker.training.words.encoder import NO_AFFIX

TRAIN = "text,label\nThe CAT sat,animal\n2 dogs ran away home,animal\nrain,weather\nmore rain than snow,weather\n"
#: Rows of a word without affixes.
BARE = (NO_AFFIX,) * len(AFFIXES)
TEST = "text,label\nthe cat,animal\nsnow and wind and the rest of it,weather\n"


def model(**fields: Any) -> TextClassifierModel:
    return TextClassifierModel.model_validate({"min_count": 1, **fields})


def plain(**fields: Any) -> TextClassifierModel:
    """A model that reads tokens."""
    return model(affixes=False, **fields)


def stored(root: Path, train: str = TRAIN, test: str = TEST) -> Path:
    return store_given(root, {"train.csv": train, "test.csv": test}, "text")


def words(splits: Any, x: Any) -> list[str]:
    tokenizer = splits.stream.tokenizer()
    return [tokenizer.decode((row[row > 0] - 1).tolist()).rstrip("\n") for row in x]


def test_rows_are_the_first_tokens_of_the_texts_and_zeros_after_them(tmp_path: Path) -> None:
    splits = load_splits(stored(tmp_path), plain(length=4, lowercase=False), Training(validation_split=0))
    assert splits.train["x"].dtype == np.int32
    assert words(splits, splits.train["x"]) == ["The CAT sat", "2 dogs ran away", "rain", "more rain than snow"]
    assert (splits.train["x"] > 0).sum(axis=1).tolist() == [4, 4, 2, 4]
    assert splits.train["y"].tolist() == [0, 0, 1, 1]
    assert splits.test is not None
    assert words(splits, splits.test["x"]) == ["<unk> <unk>", "snow <unk> <unk> <unk>"]
    assert splits.facts["classes"] == ["animal", "weather"]
    assert splits.facts["vocabulary"] == splits.stream.tokenizer().size


def test_texts_in_lower_case_share_their_words(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    splits = load_splits(folder, plain(lowercase=True), Training(validation_split=0))
    assert splits.test is not None
    assert words(splits, splits.test["x"])[0] == "the cat"
    other = load_splits(folder, plain(lowercase=False), Training(validation_split=0))
    assert splits.stream.folder != other.stream.folder


def test_a_part_of_the_training_part_is_held_out(tmp_path: Path) -> None:
    splits = load_splits(stored(tmp_path), plain(), Training(validation_split=0.25))
    assert splits.rows is not None
    assert splits.validation is not None
    assert (len(splits.rows), splits.length, len(splits.validation["y"])) == (3, 3, 1)
    left = [*words(splits, splits.train["x"][splits.rows]), *words(splits, splits.validation["x"])]
    assert sorted(left) == sorted(words(splits, splits.train["x"]))


def test_a_model_is_tested_in_its_own_tokens_and_classes(tmp_path: Path) -> None:
    """The other data set has its classes in another order, and one of them only."""
    splits = load_splits(stored(tmp_path / "a"), plain(length=6), Training())
    tokenizer = splits.stream.tokenizer().to_json()
    other = stored(tmp_path / "b", "text,label\nsnow,weather\ndogs ran,animal\n", "text,label\nthe snow,weather\n")
    classes = ["weather", "none", "animal"]
    found = load_test(other, plain(length=6), {"classes": classes}, tokenizer)
    assert found.test is not None
    assert found.test["y"].tolist() == [0]
    assert words(splits, found.test["x"]) == ["the snow"]
    assert found.facts["classes"] == classes
    with pytest.raises(BadData, match="does not know the classes animal"):
        load_test(other, plain(), {"classes": ["weather", "none"]}, tokenizer)


def test_texts_are_encoded_as_a_stored_part_is(tmp_path: Path) -> None:
    splits = load_splits(stored(tmp_path), plain(length=5), Training(validation_split=0))
    texts = [f"{line.rpartition(',')[0]}\n" for line in TRAIN.splitlines()[1:]]
    np.testing.assert_array_equal(encode(splits.stream.tokenizer(), texts, 5), splits.train["x"])
    assert encode(splits.stream.tokenizer(), [], 5).shape == (0, 1)


def read(x: WordNumbers) -> list[list[tuple[int, ...]]]:
    """The words of each row, each its id plus one and the rows of its affixes."""
    words = x.table[np.asarray(x) - 1].tolist()
    return [[tuple(word) for word in row[: np.count_nonzero(number)]] for row, number in zip(words, x, strict=True)]


def test_words_have_their_ids_and_affixes_as_they_are_written(tmp_path: Path) -> None:
    folder = stored(tmp_path, f'{TRAIN}"Who, he?\n\nX",animal\n')
    splits = load_splits(folder, model(length=4), Training(validation_split=0))
    plain = load_splits(folder, model(length=4, affixes=False), Training(validation_split=0))
    assert splits.test is not None
    assert plain.test is not None
    for x, ids in ((splits.train["x"], plain.train["x"]), (splits.test["x"], plain.test["x"])):
        assert isinstance(x, WordNumbers)
        assert x.shape == ids.shape
        assert [[word[0] for word in row] for row in read(x)] == [row[row > 0].tolist() for row in ids]
    rows = read(splits.train["x"])
    assert [word[1:] for word in rows[0]] == [tuple(affix_rows(word)) for word in ("The", "CAT", "sat")] + [BARE]
    assert [word[1:] for word in rows[-1]] == [tuple(affix_rows(word)) for word in ("Who", ",", "he", "?")]
    test = read(splits.test["x"])
    assert test[1][1][0] == 1, "`and` is unknown"
    assert test[1][1][1:] == tuple(affix_rows("and"))


def test_fine_tuning_and_tests_keep_the_words_of_the_model(tmp_path: Path) -> None:
    tokenizer = load_splits(stored(tmp_path / "a"), model(), Training()).stream.tokenizer().to_json()
    other = stored(tmp_path / "b", "text,label\nSnowing,weather\ndogs ran,animal\n", "text,label\nsnows,weather\n")
    tuned = load_splits(other, model(), Training(validation_split=0), tokenizer)
    tested = load_test(other, model(), {"classes": ["animal", "weather"]}, tokenizer)
    assert tested.test is not None
    for x, word in ((tuned.train["x"], "Snowing"), (tested.test["x"], "snows")):
        assert isinstance(x, WordNumbers)
        assert read(x)[0][0] == (1, *affix_rows(word))


def test_affixes_are_of_words_only(tmp_path: Path) -> None:
    splits = load_splits(stored(tmp_path), model(tokenizer="char", affixes=False), Training(validation_split=0))
    with pytest.raises(BadData, match=r"affixes are those of words .* char tokens"):
        numbered(splits.stream.tokenizer(), ["a"], 3)


def test_a_text_without_words_is_one_unknown_word_without_affixes(tmp_path: Path) -> None:
    splits = load_splits(stored(tmp_path), model(), Training(validation_split=0))
    found = numbered(splits.stream.tokenizer(), [" ", "rain"], 3)
    assert read(found) == [[(1, *BARE)], [(read(splits.train["x"])[2][0])]]
    assert len(numbered(splits.stream.tokenizer(), [], 3)) == 0


def test_a_text_without_tokens_is_one_unknown_word() -> None:
    found = padded(np.array([7, 8, 9], np.uint16), np.array([0, 2, 2, 3]), 5)
    assert found.tolist() == [[8, 9], [1, 0], [10, 0]]


@pytest.mark.parametrize(
    ("fields", "match"), [({}, "has no classes.*text,label"), ({"output": "sigmoid"}, "no classes")]
)
def test_text_without_classes_is_refused(tmp_path: Path, fields: dict[str, Any], match: str) -> None:
    tale = store_tale(tmp_path)
    with pytest.raises(BadData, match=match):
        load_splits(tale, model(**fields), Training())
    with pytest.raises(BadData, match="no classes"):
        load_test(tale, model(**fields), {"classes": ["a", "b"]}, "{}")


def test_one_logit_tells_two_classes_apart(tmp_path: Path) -> None:
    three = stored(tmp_path, f"{TRAIN}one,number\n", TEST)
    with pytest.raises(BadData, match=r"model.output: `sigmoid` .* has 3; use softmax"):
        load_splits(three, model(preset="lstm-2x50"), Training())
