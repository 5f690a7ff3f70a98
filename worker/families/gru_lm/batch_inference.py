"""Batch inference with a language model: scores documents or continues prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from shared.datasets.ingest import vocabulary
from shared.datasets.store import OpenDataset, open_dataset
from shared.errors import BadData
from shared.specs.jobs import Inference
from worker.families.gru_lm.language_model import Sampling, generate, score
from worker.kinds.dataset_rows import RowIndex, read_document
from worker.kinds.prediction_files import BadRow, Source

#: Longer documents (bytes) are not scored: their tokens alone would fill the memory.
MAX_DOCUMENT_BYTES = 64_000_000


def open_source(learner: Any, parent: Any, inference: Inference, dataset_dir: Path | None) -> Scores | Texts:
    """Return the documents to score or the prompts to continue.

    Raises BadData if the model has no tokenizer or the data set holds no text.
    """
    if parent.tokenizer is None:
        raise BadData("the model has no tokenizer.json")
    tokenizer = vocabulary.load(parent.tokenizer)
    if inference.task == "generate":
        return Texts(learner, tokenizer, inference)
    if dataset_dir is None:
        raise BadData("score needs a data set")
    stored = open_dataset(dataset_dir)
    if stored.kind != "text":
        raise BadData(f"a language model needs a data set of text, this one holds {stored.kind}")
    return Scores(learner, tokenizer, stored, inference.batch_rows)


@dataclass(frozen=True)
class _Document:
    id: str
    split: str
    row: int
    text: str | None
    error: str = ""


@dataclass
class Scores(Source):
    """Scores of documents: `log_likelihood` in nats, `perplexity` per token."""

    learner: Any
    tokenizer: vocabulary.TextTokenizer
    stored: OpenDataset
    batch_size: int
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("split", pa.string()),
            ("row", pa.int64()),
            ("tokens", pa.int64()),
            ("log_likelihood", pa.float64()),
            ("perplexity", pa.float64()),
        ]
    )

    def __post_init__(self) -> None:
        self.row_index = RowIndex(self.stored)
        self.total = self.row_index.total

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        documents = list(self._documents(start, stop))
        good = [one for one in documents if one.text is not None]
        scores = score(self.learner, self.tokenizer, [one.text or "" for one in good], self.batch_size)
        found: list[dict[str, Any]] = []
        bad_rows = [BadRow(one.id, one.row, one.error) for one in documents if one.text is None]
        for one, result in zip(good, scores, strict=True):
            if not math.isfinite(result.log_likelihood):
                bad_rows.append(BadRow(one.id, one.row, "the model's output is not a number"))
                continue
            perplexity = result.perplexity if math.isfinite(result.perplexity) else None  # overflows a float
            found.append(
                {"id": one.id, "split": one.split, "row": one.row, "tokens": result.tokens,
                 "log_likelihood": result.log_likelihood, "perplexity": perplexity}
            )  # fmt: skip
        order = {one.id: number for number, one in enumerate(documents)}
        return pa.Table.from_pylist(found, self.schema), sorted(bad_rows, key=lambda bad: order[bad.id])

    def _documents(self, start: int, stop: int) -> Iterator[_Document]:
        for split, first, last in self.row_index.pieces(start, stop):
            bounds = self.stored.document_bounds(split)[first : last + 1].tolist()
            ids = self.row_index.ids(split, first, last).to_pylist()
            with self.stored.text_path(split).open("rb") as file:
                for number, name in enumerate(ids):
                    begin, end = bounds[number], bounds[number + 1]
                    text, error = self._read(file, begin, end)
                    yield _Document(name, split, first + number, text, error)

    def _read(self, file: BinaryIO, begin: int, end: int) -> tuple[str | None, str]:
        """Return the text of a document, or None and what is wrong with it."""
        text, error = read_document(file, begin, end, MAX_DOCUMENT_BYTES)
        if error:
            return None, error
        return (text, "") if len(self.tokenizer.encode(text)) else (None, "the document is empty")


@dataclass
class Texts(Source):
    """Continuations of prompts."""

    learner: Any
    tokenizer: vocabulary.TextTokenizer
    inference: Inference
    schema = pa.schema([("id", pa.string()), ("row", pa.int64()), ("prompt", pa.string()), ("text", pa.string())])

    def __post_init__(self) -> None:
        self.total = len(self.inference.prompts)
        inference = self.inference
        self.sampling = Sampling(
            inference.max_new_tokens, inference.temperature, inference.top_k, inference.top_p, inference.seed
        )

    def rows(self, start: int, stop: int) -> tuple[pa.Table, list[BadRow]]:
        numbers, prompts, size = range(start, stop), self.inference.prompts[start:stop], self.inference.batch_rows
        written: list[str] = []
        for at in range(0, len(prompts), size):
            written += generate(self.learner, self.tokenizer, prompts[at : at + size], self.sampling, start + at)
        columns = [[str(number) for number in numbers], list(numbers), list(prompts), written]
        return pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, self.schema, strict=True)], schema=self.schema
        ), []
