"""Sentences with tags, as rows of at most `model.length` tokens.

Arrays are `tokens` int32 [n, longest, features] (`WordEncoder`) with 0 at padding, `tags` int32 [n, longest] with -1 at
padding, and `sentence` int64 [n], the sentence that each row is a piece of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nightshift.families.learner import Array, Splits
from nightshift.families.training import Training
from shared.datasets.ingest import vocabulary
from shared.datasets.ingest.tokens import TOKENIZER
from shared.datasets.ingest.vocabulary import TokenizerSpec
from shared.datasets.store import OpenDataset, open_dataset
from shared.errors import BadData
from worker.families.tagger.encoding import padded, pieces, words_of
from worker.families.tagger.family import TaggerModel
from worker.training.numerics.data_order import validation_split
from worker.training.words.encoder import WordEncoder

#: Sentences encoded at a time.
_AT_ONCE = 20_000


@dataclass(frozen=True, kw_only=True)
class TaggedSentences(Splits):
    """Splits with the tokenizer that their words are numbered by, as the text of a `tokenizer.json`."""

    tokenizer: str
    stored: OpenDataset

    def words(self, split: str, sentences: Sequence[int]) -> list[list[str]]:
        """Return the tokens of some sentences of a split."""
        wanted = set(sentences)
        last = max(wanted, default=-1)
        texts = enumerate(islice(self.stored.documents(split), last + 1))
        found = {number: text for number, text in texts if number in wanted}
        return words_of(found[number] for number in sentences)


def load_splits(
    dataset_dir: Path, model: TaggerModel, training: Training, tokenizer: str | None = None
) -> TaggedSentences:
    """Load the training, validation and test parts.

    `tokenizer` is the text of a `tokenizer.json` to keep (fine-tuning); None: its words are those of the training part.
    Without a validation part, sentences are held out of the training part. Raises BadData for sentences without tags.
    """
    stored = _tagged(dataset_dir)
    _check_watched(training, model, stored.tags)
    if stored.count("train") < 2:
        raise BadData("the data set needs at least two training sentences")
    words = tokenizer or _trained(stored, model)
    encoder = WordEncoder(vocabulary.load(words), model.features)
    parts = {split: _part(stored, split, encoder, model.length, stored.tags) for split in stored.splits}
    train, held_out = parts["train"], parts.get("valid") if training.validation_split else None
    rows: npt.NDArray[np.int64] | None = None
    if held_out is None and training.validation_split:
        _, taken = validation_split(training.seed, stored.count("train"), training.validation_split)
        is_taken = np.isin(train["sentence"], taken)
        rows, held_out = np.flatnonzero(~is_taken), {name: array[is_taken] for name, array in train.items()}
    length = len(train["tokens"]) if rows is None else len(rows)
    facts = _facts(words, stored.tags, model)
    return TaggedSentences(
        train, held_out, parts["test"], facts, length, rows, stored.folder, tokenizer=words, stored=stored
    )


def load_test(
    dataset_dir: Path, model: TaggerModel, facts: Mapping[str, Any], tokenizer: str | None
) -> TaggedSentences:
    """Load the test part for evaluating a trained model; tags are matched by name.

    Raises BadData if the test part has tags that the model does not know.
    """
    if tokenizer is None:
        raise BadData(f"the model has no {TOKENIZER}")
    stored, known = _tagged(dataset_dir), list(facts["tags"])
    encoder = WordEncoder(vocabulary.load(tokenizer), model.features)
    test = _part(stored, "test", encoder, model.length, known)
    return TaggedSentences({}, None, test, _facts(tokenizer, known, model), 0, tokenizer=tokenizer, stored=stored)


def _tagged(dataset_dir: Path) -> OpenDataset:
    stored = open_dataset(dataset_dir)
    if stored.kind != "text" or not stored.tags:
        raise BadData("a tagger needs sentences with a tag for each token; this data set has none (CoNLL columns)")
    return stored


def _check_watched(training: Training, model: TaggerModel, tags: list[str]) -> None:
    stopping = training.early_stopping
    if stopping and (why := model.lacks(stopping.metric, {"tags": tags})) is not None:
        raise BadData(f"training.early_stopping.metric: {why}")


def _trained(stored: OpenDataset, model: TaggerModel) -> str:
    spec = TokenizerSpec("word", model.vocabulary_size)
    return vocabulary.train(spec, stored.documents("train"), tokenised=True).to_json()


def _facts(tokenizer: str, tags: list[str], model: TaggerModel) -> dict[str, Any]:
    size = vocabulary.load(tokenizer).size
    return {"tags": tags, "vocabulary": size, "preprocessing": {"tokenizer": "word", "length": model.length}}


def _part(stored: OpenDataset, split: str, encoder: WordEncoder, length: int, known: Sequence[str]) -> dict[str, Array]:
    """Return the rows of a split, with tags by their place in `known`."""
    flat, counts = _encoded(stored, split, encoder)
    number = np.array([known.index(tag) if tag in known else -1 for tag in stored.tags], np.int32)
    tags = number[stored.token_tags(split)]
    if (tags < 0).any():
        names = sorted({stored.tags[tag] for tag in stored.token_tags(split)[tags < 0]})
        raise BadData(f"the {split} part has tags that the model does not know: {', '.join(names[:5])}")
    lengths, sentence = pieces(counts, length)
    return {"tokens": padded(flat, lengths, 0), "tags": padded(tags, lengths, -1), "sentence": sentence}


def _encoded(stored: OpenDataset, split: str, encoder: WordEncoder) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return all tokens of a split, and the number of tokens of each sentence."""
    flat, counts, texts = list[Array](), list[int](), stored.documents(split)
    while sentences := words_of(islice(texts, _AT_ONCE)):
        counts += map(len, sentences)
        flat.append(encoder.encode([word for sentence in sentences for word in sentence]))
    return np.concatenate(flat), np.array(counts, np.int64)


def write_extras(root: Path, splits: TaggedSentences) -> list[Path]:
    """Write `model/tokenizer.json` beside the weights."""
    path = root / "model" / TOKENIZER
    path.write_text(splits.tokenizer, encoding="utf-8")
    return [path]
