"""Sentences as rows: long ones are cut, held out whole, and joined again for their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.training import Training
from shared.datasets.ingest.tokens import TOKENIZER
from shared.errors import BadData
from worker.families.tagger.data import TaggedSentences, load_splits, load_test, write_extras
from worker.families.tagger.evaluation import report
from worker.families.tagger.family import TaggerModel
from worker.families.tagger.predicted import predict
from worker.families.tagger.trial_data import sentences, stored

TRAIN, TEST = sentences(60), sentences(25, seed=1)


class Oracle:
    """Predicts the tags that it was given, whatever the tokens are."""

    def __init__(self, tags: np.ndarray[Any, Any], count: int) -> None:
        self.tags, self.count = tags, count

    def predict(self, inputs: np.ndarray[Any, Any], batch_size: int) -> np.ndarray[Any, Any]:
        return np.eye(self.count, dtype=np.float32)[np.maximum(self.tags, 0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stored(tmp_path, {"train": TRAIN, "test": TEST})


def loaded(folder: Path, length: int = 5, **training: Any) -> TaggedSentences:
    return load_splits(folder, TaggerModel(length=length), Training(**training))


def test_long_sentences_are_cut_and_joined_again(folder: Path) -> None:
    splits = loaded(folder)
    assert splits.test is not None
    tokens = splits.test["tokens"]
    assert tokens.shape[1] == 5
    assert len(tokens) == sum(-(-len(sentence) // 5) for sentence in TEST)
    names = splits.facts["tags"]
    oracle: Any = Oracle(splits.test["tags"], len(names))
    found = predict(oracle, splits.test)
    assert found.lengths.tolist() == [len(sentence) for sentence in TEST]
    assert [names[tag] for tag in found.true] == [tag for sentence in TEST for _, tag in sentence]
    assert (found.predicted == found.true).all()


def test_figures_are_of_whole_sentences(folder: Path) -> None:
    """An entity that is cut in two by `length` is one entity."""
    found = []
    for length in (2, 50):
        splits = loaded(folder, length)
        assert splits.test is not None
        oracle: Any = Oracle(splits.test["tags"], len(splits.facts["tags"]))
        found.append(report(oracle, splits, TaggerModel(length=length), Training()))
    entities = [{row["entity"]: row["support"] for row in one.document["per_entity"]} for one in found]
    assert entities[0] == entities[1]
    assert found[0].metrics["f1_entity"] == found[1].metrics["f1_entity"] == 1.0
    assert found[0].document["worst_sentences"] == []


def test_sentences_are_held_out_whole(folder: Path) -> None:
    splits = loaded(folder, validation_split=0.25)
    assert splits.validation is not None
    assert splits.rows is not None
    held, trained = set(splits.validation["sentence"].tolist()), set(splits.train["sentence"][splits.rows].tolist())
    assert len(held) == 15
    assert held.isdisjoint(trained)
    assert held | trained == set(range(60))
    assert loaded(folder, validation_split=0.0).validation is None


def test_fine_tuning_keeps_the_words(folder: Path, tmp_path: Path) -> None:
    kept = loaded(folder).tokenizer
    other = stored(tmp_path / "other", {"train": TEST, "test": TRAIN[:5]})
    splits = load_splits(other, TaggerModel(), Training(), tokenizer=kept)
    assert splits.tokenizer == kept
    (tmp_path / "model").mkdir()
    (path,) = write_extras(tmp_path, splits)
    assert (path.name, path.read_text()) == (TOKENIZER, kept)


def test_tags_of_the_test_part_are_matched_by_name(folder: Path) -> None:
    splits = loaded(folder)
    known = ["B-XYZ", *splits.facts["tags"]]
    test = load_test(folder, TaggerModel(), {"tags": known}, splits.tokenizer).test
    assert test is not None
    tags = [known[tag] for tag in test["tags"][test["tags"] >= 0]]
    assert tags == [tag for sentence in TEST for _, tag in sentence]
    with pytest.raises(BadData, match="tags that the model does not know: B-LOC"):
        load_test(folder, TaggerModel(), {"tags": ["O"]}, splits.tokenizer)


def test_a_tagger_needs_tags_of_entities_to_watch_them(tmp_path: Path) -> None:
    words = [[(word, "W") for word, _ in sentence] + [("!", "P")] for sentence in TRAIN]
    folder = stored(tmp_path, {"train": words, "test": words[:9]})
    stopping: Any = {"metric": "val_f1_entity", "patience": 1}
    with pytest.raises(BadData, match="the tags mark no entities"):
        loaded(folder, early_stopping=stopping)
