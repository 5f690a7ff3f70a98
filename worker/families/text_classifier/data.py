"""Labelled texts for classifiers: their first tokens, as rows of one array.

Arrays are `x` int32 [n, length], the token ids plus one with 0 after a text's end, and `y` int64 [n]. For a model with
affixes `x` are word numbers instead of token ids, with a table of the words (`WordNumbers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array, Splits
from nightshift.families.training import Training
from nightshift.names import TEXT
from shared.datasets.ingest.tokens import TOKENIZER, OpenTokens, open_tokens, token_stream
from shared.datasets.ingest.vocabulary import TextTokenizer, TokenizerSpec, WordTokenizer
from shared.datasets.store import OpenDataset, open_dataset
from shared.errors import BadData
from worker.families.text_classifier.family import TextClassifierModel
from worker.families.text_classifier.words import NumberedTexts, WordNumbers
from worker.training.classification.labels import labels_of_model
from worker.training.numerics.data_order import validation_split

#: Token that a text without tokens consists of: `<unk>` (shared.datasets.ingest.vocabulary).
_UNKNOWN = 0
#: Bytes read of a text for each token that a model reads; longer texts are not read to their end.
BYTES_PER_TOKEN = 100


@dataclass(frozen=True, kw_only=True)
class LabelledTexts(Splits):
    """Splits with the token stream that they were cut from."""

    stream: OpenTokens
    stored: OpenDataset

    def texts(self, split: str, rows: Sequence[int], most: int = 400) -> list[str]:
        """Return the beginnings of documents of a split, at most this many characters of each."""
        bounds = self.stored.document_bounds(split)
        with self.stored.text_path(split).open("rb") as file:
            found = (_beginning(file, int(bounds[row]), int(bounds[row + 1]), 4 * most).rstrip() for row in rows)
            return [text if len(text) <= most else f"{text[:most]} …" for text in found]


def _beginning(file: BinaryIO, begin: int, end: int, most: int) -> str:
    """Return the first `most` bytes of a document, without a character that they end in."""
    file.seek(begin)
    return file.read(min(end - begin, most)).decode(errors="ignore")


def load_splits(
    dataset_dir: Path, model: TextClassifierModel, training: Training, tokenizer: str | None = None
) -> LabelledTexts:
    """Load the training, validation and test parts.

    `tokenizer` is the text of a `tokenizer.json` to keep (fine-tuning); None builds the model's own from the training
    part. Raises BadData if the data set does not fit the model.
    """
    stored = open_dataset(dataset_dir)
    _check(stored, model)
    return _splits(stored, model, training, tokenizer or spec_of(model))


def load_test(
    dataset_dir: Path, model: TextClassifierModel, facts: Mapping[str, Any], tokenizer: str | None
) -> LabelledTexts:
    """Load the test part for evaluating a trained model; labels are mapped to its classes by name.

    Raises BadData if the data set has classes that the model does not know.
    """
    if tokenizer is None:
        raise BadData(f"the model has no {TOKENIZER}")
    stored = open_dataset(dataset_dir)
    _check_text(stored)
    if not stored.classes:
        raise BadData("the data set has no classes to compare the predictions with")
    own = labels_of_model(stored.classes, facts["classes"])
    splits = _splits(stored, model, Training(validation_split=0), tokenizer)
    test = None if splits.test is None else {**splits.test, "y": own[splits.test["y"]]}
    return replace(splits, test=test, facts={**splits.facts, "classes": list(facts["classes"])})


def spec_of(model: TextClassifierModel) -> TokenizerSpec:
    """Return what the model's tokenizer is made by."""
    return TokenizerSpec(model.tokenizer, model.vocabulary_size, model.lowercase, model.min_count)


def _splits(
    stored: OpenDataset, model: TextClassifierModel, training: Training, tokenizer: TokenizerSpec | str
) -> LabelledTexts:
    stream = open_tokens(token_stream(stored.folder, tokenizer))
    parts: dict[str, dict[str, Array]] = {
        split: {"x": _rows(stored, stream, split, model), "y": np.array(stored.y(split))} for split in stored.splits
    }
    train, held_out = parts["train"], parts.get("valid") if training.validation_split else None
    rows: npt.NDArray[np.int64] | None = None
    if held_out is None and training.validation_split:
        rows, taken = validation_split(training.seed, len(train["y"]), training.validation_split)
        held_out = {name: array[taken] for name, array in train.items()}
    facts: dict[str, Any] = {
        "classes": stored.classes,
        "vocabulary": stream.vocabulary,
        "preprocessing": {"tokenizer": stream.meta["kind"], "lowercase": model.lowercase, "length": model.length},
    }
    length = len(train["y"]) if rows is None else len(rows)
    return LabelledTexts(
        train, held_out, parts["test"], facts, length, rows, stored.folder, stream=stream, stored=stored
    )


def _rows(stored: OpenDataset, stream: OpenTokens, split: str, model: TextClassifierModel) -> npt.NDArray[np.int32]:
    if model.affixes:
        return numbered(stream.tokenizer(), _beginnings(stored, split, model.length * BYTES_PER_TOKEN), model.length)
    return documents(stream, split, model.length)


def _beginnings(stored: OpenDataset, split: str, most: int) -> Iterator[str]:
    with stored.text_path(split).open("rb") as file:
        for begin, end in pairwise(stored.document_bounds(split).tolist()):
            yield _beginning(file, begin, end, most)


def documents(stream: OpenTokens, split: str, length: int) -> npt.NDArray[np.int32]:
    """Return the first tokens of each document of a split, [documents, most tokens of one]."""
    return padded(stream.tokens(split), stream.document_bounds(split), length)


def numbered(tokenizer: TextTokenizer, texts: Iterable[str], length: int) -> WordNumbers:
    """Return the first words of texts as numbers with a table. Raises BadData if the tokens are not words."""
    if not isinstance(tokenizer, WordTokenizer):
        raise BadData(f"affixes are those of words and the model's {TOKENIZER} splits into {tokenizer.kind} tokens")
    encoder = NumberedTexts(tokenizer, length)
    numbers, bounds = encoder.numbers(texts)
    return WordNumbers.of(padded(numbers, bounds, length), encoder.table)


def encode(tokenizer: TextTokenizer, texts: list[str], length: int) -> npt.NDArray[np.int32]:
    """Return the first tokens of texts, as `documents` does."""
    found = tokenizer.encode_batch(texts)
    bounds = np.concatenate([[0], np.cumsum([len(tokens) for tokens in found])]).astype(np.int64)
    return padded(np.concatenate([np.empty(0, np.uint32), *found]), bounds, length)


def padded(tokens: Array, bounds: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int32]:
    """Return the first `length` tokens between each two bounds, plus one, with 0 after them."""
    lengths = np.minimum(np.diff(bounds), length)
    found = np.zeros((len(lengths), max(1, int(lengths.max(initial=0)))), np.int32)
    here = np.arange(found.shape[1]) < lengths[:, None]
    places = bounds[:-1, None] + np.arange(found.shape[1])
    found[here] = tokens[places[here]].astype(np.int32) + 1
    found[lengths == 0, 0] = _UNKNOWN + 1
    return found


def _check(stored: OpenDataset, model: TextClassifierModel) -> None:
    _check_text(stored)
    unfit = model.unfit("the data set", stored.meta)
    if unfit is not None:
        raise BadData(f"{'.'.join(map(str, ('model', *unfit.loc)))}: {unfit.msg}")
    if stored.count("train") < 2:
        raise BadData("the data set needs at least two training texts")


def _check_text(stored: OpenDataset) -> None:
    if stored.kind != TEXT:
        raise BadData(f"a classifier of text needs a data set of text, this one holds {stored.kind}")


def write_extras(root: Path, splits: LabelledTexts) -> list[Path]:
    """Write `model/tokenizer.json` beside the weights."""
    path = root / "model" / TOKENIZER
    path.write_bytes((splits.stream.folder / TOKENIZER).read_bytes())
    return [path]
