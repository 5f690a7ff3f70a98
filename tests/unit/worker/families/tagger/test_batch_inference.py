"""Tags of documents: one row each, with what cannot be read beside them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nightshift.testing.datasets import store_documents
from shared.datasets.ingest import vocabulary
from shared.specs.jobs import Inference
from worker.families.tagger import batch_inference
from worker.families.tagger.family import TaggerModel

TOKENIZER = vocabulary.train(vocabulary.TokenizerSpec("word", 50), iter(["Ada met Bob\n"]), tokenised=True)


class Names:
    """Predicts B-PER for the words in its vocabulary, O for all others."""

    def predict(self, inputs: Any, batch_size: int) -> Any:
        known = inputs[..., 0] > 1
        return np.stack([~known, known], axis=-1).astype(np.float32)


def source(folder: Path) -> Any:
    parent = SimpleNamespace(tokenizer=TOKENIZER.to_json(), facts={"tags": ["O", "B-PER"]}, model=TaggerModel(length=2))
    return batch_inference.open_source(Names(), parent, Inference(batch_size=2), folder)  # type: ignore[arg-type]


def test_each_document_has_a_row_or_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_inference, "MAX_DOCUMENT_BYTES", 40)
    given = [b"Ada saw Bob\n", b" \n", b"Ada \xff\n", b"cold " * 9 + b"\n", b"it rained\n"]
    found = source(store_documents(tmp_path, given))
    table, bad = found.rows(0, 5)
    rows = table.to_pylist()
    assert [(row["id"], row["tokens"], row["tags"]) for row in rows] == [
        ("train/0", ["Ada", "saw", "Bob"], ["B-PER", "O", "B-PER"]),
        ("train/4", ["it", "rained"], ["O", "O"]),
    ]
    assert [(one.id, one.row, one.reason) for one in bad] == [
        ("train/1", 1, "the document is empty"),
        ("train/2", 2, "the document is not UTF-8 at byte 4"),
        ("train/3", 3, "the document is longer than 40 bytes"),
    ]
