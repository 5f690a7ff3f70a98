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
from worker.kinds.prediction_files import BadRow, Source
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
    return Predictions(learner, read, classes, stored, inference.batch_size)


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


@dataclass
class Predictions(Source):
    """Predictions of the documents of a text, labelled or not."""

    learner: Learner
    read: Reading
    classes: list[str]
    stored: OpenDataset
    batch_size: int
    schema = SCHEMA

    def __post_init__(self) -> None:
        self.row_index = RowIndex(self.stored)
        self.total = self.row_index.total

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        pieces = [self._piece(*piece) for piece in self.row_index.pieces(start, stop)]
        table = pa.concat_tables([self.schema.empty_table(), *(found for found, _ in pieces)])
        return table, [row for _, bad in pieces for row in bad]

    def _piece(self, split: str, first: int, last: int) -> tuple[pa.Table, list[BadRow]]:
        with self.stored.text_path(split).open("rb") as file:
            bounds = self.stored.document_bounds(split)[first : last + 1].tolist()
            texts = [self._read(file, *bounds[i : i + 2]) for i in range(last - first)]
        ids, rows = self.row_index.ids(split, first, last), np.arange(first, last, dtype=np.int64)
        kept = np.array([i for i, (_, error) in enumerate(texts) if not error], np.int64)
        found, bad = table(
            ids.take(pa.array(kept)),
            self.row_index.split_column(split, len(kept)),
            rows[kept],
            self.classes,
            self.learner.predict(self.read.rows([texts[i][0] for i in kept]), self.batch_size),
        )
        bad += [BadRow(ids[i].as_py(), first + i, error) for i, (_, error) in enumerate(texts) if error]
        return found, sorted(bad, key=lambda one: one.row)

    def _read(self, file: BinaryIO, begin: int, end: int) -> tuple[str, str]:
        """Return the beginning of a document and what is wrong with it, if anything."""
        most = self.read.most
        file.seek(begin)
        data = file.read(min(end - begin, most))
        try:
            text = data.decode()
        except UnicodeDecodeError as failure:
            if end - begin <= most or failure.start < most - 4:
                return "", f"the document is not UTF-8 at byte {failure.start}"
            text = data.decode(errors="ignore")  # the limit is inside a character
        return text, "" if text.strip() else "the document is empty"
