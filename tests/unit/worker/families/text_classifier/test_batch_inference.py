"""Predictions of documents: one row each, with what cannot be read beside them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nightshift.testing.datasets import store_digits, store_documents
from shared.datasets.ingest import vocabulary
from shared.errors import BadData
from shared.specs.jobs import Inference
from worker.families.text_classifier.batch_inference import open_source
from worker.families.text_classifier.words import table_of
from worker.training.words.affixes import AFFIXES, affix_rows

TOKENIZER = vocabulary.train(vocabulary.TokenizerSpec("word", 50), iter(["cats saw dogs\n"]), tokenised=False)


class Counting:
    """Predicts class 1 with the share of tokens that are `dogs`; NaN for a row of one token."""

    def predict(self, inputs: Any, batch_size: int) -> Any:
        dogs = (inputs == TOKENIZER.encode("dogs")[0] + 1).sum(axis=1) / (inputs > 0).sum(axis=1)
        dogs = np.where((inputs > 0).sum(axis=1) == 1, np.nan, dogs)
        return np.stack([1 - dogs, dogs], axis=1).astype(np.float32)


def source(folder: Path, learner: Any = None, *, length: int = 4, affixes: bool = False) -> Any:
    parent = SimpleNamespace(
        tokenizer=TOKENIZER.to_json(),
        facts={"classes": ["no", "yes"]},
        model=SimpleNamespace(length=length, affixes=affixes),
    )
    return open_source(learner or Counting(), parent, Inference(batch_size=2), folder)  # type: ignore[arg-type]


def test_each_document_has_a_row_or_a_reason(tmp_path: Path) -> None:
    documents = [b"dogs dogs cats\n", b" \n\n", b"saw", b"dogs \xff\n", b"saw cats saw cats dogs dogs\n"]
    found = source(store_documents(tmp_path, documents))
    table, bad = found.rows(0, found.total)
    assert found.total == 6
    rows = table.to_pylist()
    assert [(row["id"], row["label"], row["label_index"]) for row in rows] == [
        ("train/0", "no", 0), ("train/4", "no", 0), ("test/0", "no", 0),
    ]  # fmt: skip
    assert rows[0]["probabilities"] == pytest.approx([0.5, 0.5])
    assert rows[1]["probabilities"] == [1.0, 0.0], "cut to four tokens"
    assert [(one.id, one.row, one.reason) for one in bad] == [
        ("train/1", 1, "the document is empty"),
        ("train/2", 2, "the model's output is not a number"),
        ("train/3", 3, "the document is not UTF-8 at byte 5"),
    ]


class Ending:
    """Predicts class 1 for a text whose first word, which it does not know, ends like `frogs`."""

    def predict(self, inputs: Any, batch_size: int) -> Any:
        words = table_of(inputs)[np.asarray(inputs)[:, 0] - 1]
        assert (words[:, 0] == 1).all(), "the vocabulary has none of them"
        wanted = 1 + AFFIXES.index("suffix")
        found = words[:, wanted] == affix_rows("frogs")[wanted - 1]
        return np.stack([~found, found], axis=1).astype(np.float32)


def test_unknown_words_keep_their_affixes(tmp_path: Path) -> None:
    found = source(store_documents(tmp_path, [b"Hogs ran\n", b"kangaroo\n", b"logs\n"]), Ending(), affixes=True)
    table, bad = found.rows(0, found.total)
    assert [row["label"] for row in table.to_pylist()] == ["yes", "no", "yes", "no"], "the last one is the test part's"
    assert bad == []


def test_the_end_of_a_long_document_is_not_read(tmp_path: Path) -> None:
    """The limit falls inside a character of two bytes."""
    folder = store_documents(tmp_path, [("é" * 1000).encode(), b"dogs dogs"])
    found = source(folder, length=1)
    _, bad = found.rows(0, 2)
    assert [one.row for one in bad] == [0, 1]
    assert all("not a number" in one.reason for one in bad)


def test_a_damaged_end_of_a_document_that_is_read_whole_is_an_error(tmp_path: Path) -> None:
    found = source(store_documents(tmp_path, [b"d" * 97 + b" \xff", b"dogs dogs"]), length=1)
    _, bad = found.rows(0, 1)
    assert [one.reason for one in bad] == ["the document is not UTF-8 at byte 98"]


def test_pictures_and_models_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="holds image"):
        source(store_digits(tmp_path))
    parent = SimpleNamespace(tokenizer=None, facts={"classes": []})
    with pytest.raises(BadData, match=r"no tokenizer\.json"):
        open_source(Counting(), parent, Inference(batch_size=2), tmp_path)  # type: ignore[arg-type]
