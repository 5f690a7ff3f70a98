"""Labelled texts as rows of token ids: cut, padded, and divided into parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.training import Training
from nightshift.testing.datasets import store_given, store_tale
from shared.errors import BadData
from worker.families.text_classifier.data import encode, load_splits, load_test, padded
from worker.families.text_classifier.family import TextClassifierModel

TRAIN = "text,label\nThe CAT sat,animal\n2 dogs ran away home,animal\nrain,weather\nmore rain than snow,weather\n"
TEST = "text,label\nthe cat,animal\nsnow and wind and the rest of it,weather\n"


def model(**fields: Any) -> TextClassifierModel:
    return TextClassifierModel.model_validate(fields)


def stored(root: Path, train: str = TRAIN, test: str = TEST) -> Path:
    return store_given(root, {"train.csv": train, "test.csv": test}, "text")


def words(splits: Any, x: Any) -> list[str]:
    tokenizer = splits.stream.tokenizer()
    return [tokenizer.decode((row[row > 0] - 1).tolist()).rstrip("\n") for row in x]


def test_rows_are_the_first_tokens_of_the_texts_and_zeros_after_them(tmp_path: Path) -> None:
    splits = load_splits(stored(tmp_path), model(length=4, lowercase=False), Training(validation_split=0))
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
    splits = load_splits(folder, model(lowercase=True), Training(validation_split=0))
    assert splits.test is not None
    assert words(splits, splits.test["x"])[0] == "the cat"
    other = load_splits(folder, model(lowercase=False), Training(validation_split=0))
    assert splits.stream.folder != other.stream.folder


def test_a_part_of_the_training_part_is_held_out(tmp_path: Path) -> None:
    splits = load_splits(stored(tmp_path), model(), Training(validation_split=0.25))
    assert splits.rows is not None
    assert splits.validation is not None
    assert (len(splits.rows), splits.length, len(splits.validation["y"])) == (3, 3, 1)
    left = [*words(splits, splits.train["x"][splits.rows]), *words(splits, splits.validation["x"])]
    assert sorted(left) == sorted(words(splits, splits.train["x"]))


def test_a_model_is_tested_in_its_own_tokens_and_classes(tmp_path: Path) -> None:
    """The other data set has its classes in another order, and one of them only."""
    splits = load_splits(stored(tmp_path / "a"), model(length=6), Training())
    tokenizer = splits.stream.tokenizer().to_json()
    other = stored(tmp_path / "b", "text,label\nsnow,weather\ndogs ran,animal\n", "text,label\nthe snow,weather\n")
    classes = ["weather", "none", "animal"]
    found = load_test(other, model(length=6), {"classes": classes}, tokenizer)
    assert found.test is not None
    assert found.test["y"].tolist() == [0]
    assert words(splits, found.test["x"]) == ["the snow"]
    assert found.facts["classes"] == classes
    with pytest.raises(BadData, match="does not know the classes animal"):
        load_test(other, model(), {"classes": ["weather", "none"]}, tokenizer)


def test_texts_are_encoded_as_a_stored_part_is(tmp_path: Path) -> None:
    splits = load_splits(stored(tmp_path), model(length=5), Training(validation_split=0))
    texts = [f"{line.rpartition(',')[0]}\n" for line in TRAIN.splitlines()[1:]]
    np.testing.assert_array_equal(encode(splits.stream.tokenizer(), texts, 5), splits.train["x"])
    assert encode(splits.stream.tokenizer(), [], 5).shape == (0, 1)


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
