"""Batch inference with a tagger: tags every sentence of a data set, its training part first.

A sentence is a document. Its tokens are separated by spaces where they are already; other text is split around
punctuation, too, line breaks like spaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nightshift.families.learner import Learner
from shared.datasets.ingest import vocabulary
from shared.datasets.store import OpenDataset, open_dataset
from shared.errors import BadData
from shared.specs.jobs import Inference
from worker.families.tagger.encoding import padded, pieces
from worker.kinds.dataset_rows import RowIndex, read_document
from worker.kinds.prediction_files import BadRow, Source
from worker.training.words.encoder import WordEncoder

#: A longer document (bytes) becomes a bad row. Too low: long texts are left out. Too high: one takes much memory.
MAX_DOCUMENT_BYTES = 4_000_000


def open_source(learner: Learner, parent: Any, inference: Inference, dataset_dir: Path | None) -> TaggedRows:
    """Return the sentences to tag. Raises BadData if the data set holds no text."""
    if dataset_dir is None:
        raise BadData("predict needs a data set")
    if parent.tokenizer is None:
        raise BadData("the model has no tokenizer.json")
    stored = open_dataset(dataset_dir)
    if stored.kind != "text":
        raise BadData(f"a tagger needs a data set of text, this one holds {stored.kind}")
    encoder = WordEncoder(vocabulary.load(parent.tokenizer), parent.model.features)
    return TaggedRows(learner, encoder, parent.model.length, list(parent.facts["tags"]), stored, inference.batch_rows)


@dataclass
class TaggedRows(Source):
    """Sentences with their tokens and tags, and the probability of each tag."""

    learner: Learner
    encoder: WordEncoder
    length: int
    tags: list[str]
    stored: OpenDataset
    batch_size: int
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("split", pa.string()),
            ("row", pa.int64()),
            ("tokens", pa.list_(pa.string())),
            ("tags", pa.list_(pa.string())),
            ("probabilities", pa.list_(pa.float32())),
        ]
    )

    def __post_init__(self) -> None:
        self.row_index = RowIndex(self.stored)
        self.total = self.row_index.total

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        found: list[dict[str, Any]] = []
        bad: list[BadRow] = []
        for split, first, last in self.row_index.pieces(start, stop):
            ids = self.row_index.ids(split, first, last).to_pylist()
            sentences = self._sentences(split, first, last)
            tagged = self._tagged([words for words, _ in sentences])
            for number, ((words, error), row) in enumerate(zip(sentences, tagged, strict=True)):
                if problem := error or _problem(words, row):
                    bad.append(BadRow(ids[number], first + number, problem))
                else:
                    found.append({"id": ids[number], "split": split, "row": first + number, "tokens": words, **row})
        return pa.Table.from_pylist(found, self.schema), bad

    def _sentences(self, split: str, first: int, last: int) -> list[tuple[list[str], str]]:
        """Return the tokens of each document, and why one cannot be read."""
        bounds = self.stored.document_bounds(split)[first : last + 1].tolist()
        with self.stored.text_path(split).open("rb") as file:
            read = [read_document(file, begin, end, MAX_DOCUMENT_BYTES) for begin, end in pairwise(bounds)]
        return [(self._words(text), error) for text, error in read]

    def _words(self, text: str) -> list[str]:
        return vocabulary.words_of(text, tokenised=bool(self.stored.meta["tokenised"]))

    def _tagged(self, sentences: list[list[str]]) -> list[dict[str, Any]]:
        """Return the tags and their probabilities of each sentence."""
        words = [word for sentence in sentences for word in sentence]
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        if not words:
            return [{"tags": [], "probabilities": []} for _ in sentences]
        rows, _ = pieces(lengths, self.length)
        tokens = padded(self.encoder.encode(words), rows, 0)
        here = np.asarray(tokens[..., 0]) > 0
        probabilities = self.learner.predict(tokens, self.batch_size)[here]
        best = probabilities.argmax(axis=1)
        chosen = probabilities[np.arange(len(best)), best]
        ends = np.cumsum(lengths).tolist()
        return [
            {"tags": [self.tags[tag] for tag in best[end - length : end]], "probabilities": chosen[end - length : end]}
            for end, length in zip(ends, lengths.tolist(), strict=True)
        ]


def _problem(words: list[str], row: dict[str, Any]) -> str:
    if not words:
        return "the document is empty"
    return "" if np.isfinite(row["probabilities"]).all() else "the model's output is not a number"
