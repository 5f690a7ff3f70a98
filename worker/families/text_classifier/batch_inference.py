"""Batch inference with a classifier of text: predicts every document of a data set, its training part first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from nightshift.families.learner import Array, Learner
from nightshift.names import TEXT
from shared.datasets.ingest import vocabulary
from shared.datasets.ingest.tokens import TOKENIZER
from shared.datasets.store import OpenDataset, open_dataset
from shared.errors import BadData
from shared.specs.jobs import Inference
from worker.families.text_classifier.data import BYTES_PER_TOKEN, encode, numbered
from worker.kinds.dataset_rows import RowIndex
from worker.kinds.prediction_files import BadRow, StagedSource
from worker.training.classification.predictions import SCHEMA, table


def open_source(learner: Learner, parent: Any, inference: Inference, dataset_dir: Path | None) -> Predictions:
    """Return the documents to predict. Raises BadData if the model has no tokenizer or the data set holds no text."""
    if parent.tokenizer is None:
        raise BadData(f"the model has no {TOKENIZER}")
    if dataset_dir is None:
        raise BadData("predict needs a data set")
    stored = open_dataset(dataset_dir)
    if stored.kind != TEXT:
        raise BadData(f"a classifier of text needs a data set of text, this one holds {stored.kind}")
    tokenizer, classes = vocabulary.load(parent.tokenizer), list(parent.facts["classes"])
    read = Reading(tokenizer, parent.model.length, affixes=parent.model.affixes)
    return Predictions(learner, read, classes, stored, inference.batch_rows)


@dataclass(frozen=True)
class Reading:
    """What a model reads of a text."""

    tokenizer: vocabulary.TextTokenizer
    length: int
    affixes: bool

    @property
    def most(self) -> int:
        """Return the bytes of a text that are read at most."""
        return self.length * BYTES_PER_TOKEN

    def rows(self, texts: list[str]) -> Array:
        """Return texts as the rows that a learner predicts."""
        return (numbered if self.affixes else encode)(self.tokenizer, texts, self.length)


@dataclass(frozen=True)
class _Piece:
    """Documents `first` … `last - 1` of a split: the tokens of those that are kept, and why others are not."""

    split: str
    first: int
    last: int
    kept: Array
    tokens: Array
    errors: dict[int, str]


@dataclass
class Predictions(StagedSource):
    """Predictions of the documents of a text, labelled or not."""

    learner: Learner
    reading: Reading
    classes: list[str]
    stored: OpenDataset
    batch_size: int
    schema = SCHEMA

    def __post_init__(self) -> None:
        self.row_index = RowIndex(self.stored)
        self.total = self.row_index.total

    def read(self, start: int, stop: int) -> list[_Piece]:
        return [self._piece(*piece) for piece in self.row_index.pieces(start, stop)]

    def predict(self, read: list[_Piece]) -> list[Array]:
        return [self.learner.predict(piece.tokens, self.batch_size) for piece in read]

    def table(self, read: list[_Piece], found: list[Array]) -> tuple[pa.Table, list[BadRow]]:
        tables = [self._table(piece, one) for piece, one in zip(read, found, strict=True)]
        whole = pa.concat_tables([self.schema.empty_table(), *(rows for rows, _ in tables)])
        return whole, [row for _, bad in tables for row in bad]

    def _piece(self, split: str, first: int, last: int) -> _Piece:
        with self.stored.text_path(split).open("rb") as file:
            bounds = self.stored.document_bounds(split)[first : last + 1].tolist()
            texts = [self._read(file, *bounds[i : i + 2]) for i in range(last - first)]
        kept = np.array([i for i, (_, error) in enumerate(texts) if not error], np.int64)
        tokens = self.reading.rows([texts[i][0] for i in kept])
        return _Piece(split, first, last, kept, tokens, {i: error for i, (_, error) in enumerate(texts) if error})

    def _table(self, piece: _Piece, probabilities: Array) -> tuple[pa.Table, list[BadRow]]:
        split, first, last = piece.split, piece.first, piece.last
        ids, rows = self.row_index.ids(split, first, last), np.arange(first, last, dtype=np.int64)
        splits = self.row_index.split_column(split, len(piece.kept))
        found, bad = table(ids.take(pa.array(piece.kept)), splits, rows[piece.kept], self.classes, probabilities)
        bad += [BadRow(ids[i].as_py(), first + i, error) for i, error in piece.errors.items()]
        return found, sorted(bad, key=lambda one: one.row)

    def _read(self, file: BinaryIO, begin: int, end: int) -> tuple[str, str]:
        """Return the beginning of a document and what is wrong with it, if anything."""
        most = self.reading.most
        file.seek(begin)
        data = file.read(min(end - begin, most))
        try:
            text = data.decode()
        except UnicodeDecodeError as failure:
            if end - begin <= most or failure.start < most - 4:
                return "", f"the document is not UTF-8 at byte {failure.start}"
            text = data.decode(errors="ignore")  # the limit is inside a character
        return text, "" if text.strip() else "the document is empty"
