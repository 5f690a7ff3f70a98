"""Token streams of a text data set: encoded once per tokenizer, stored beside the text, read memory-mapped.

`<data set>/tokens-<hash>/`:
    tokenizer.json           as shared.datasets.ingest.vocabulary writes it
    <split>.npy              uint16 (uint32 above 65,536 tokens) [tokens], the documents back to back
    <split>_docs.npy         int64 [documents + 1], the offset of each document in it
    meta.json                {kind, vocabulary, splits: {train: {tokens, documents}, …}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.datasets.ingest import vocabulary
from shared.datasets.ingest.vocabulary import TextTokenizer, TokenizerSpec
from shared.datasets.store import (
    META,
    NpyWriter,
    OpenDataset,
    Stored,
    load_array,
    open_dataset,
    rename_into_place,
    staging,
)
from shared.errors import BadData
from shared.lazy_numpy import np

if TYPE_CHECKING:
    import numpy.typing as npt

TOKENIZER = "tokenizer.json"
#: Increased when the same tokenizer would split a text into other tokens.
_REVISION = 1
#: Text encoded at a time (bytes).
_PIECE_BYTES = 2_000_000
#: The tokens of a larger part (bytes) are not counted at registration. Too low: a job for which the part is too short
#: fails in its runner instead of being refused. Too high: registering a long text takes longer (a second per 8 MB).
COUNTED_BYTES = 8_000_000


@dataclass(frozen=True)
class OpenTokens:
    """A token stream opened for reading; arrays are memory-mapped."""

    folder: Path
    meta: dict[str, Any]

    @property
    def vocabulary(self) -> int:
        """Return the number of tokens of the tokenizer; ids are below it."""
        return int(self.meta["vocabulary"])

    @property
    def splits(self) -> list[str]:
        """Return the names of the splits."""
        return list(self.meta["splits"])

    def tokens(self, split: str) -> npt.NDArray[np.uint16] | npt.NDArray[np.uint32]:
        """Return the token ids of a split, [tokens]."""
        return load_array(self.folder / f"{split}.npy")

    def document_bounds(self, split: str) -> npt.NDArray[np.int64]:
        """Return the offsets of the documents in `tokens`, int64 [documents + 1]."""
        return load_array(self.folder / f"{split}_docs.npy")

    def tokenizer(self) -> TextTokenizer:
        """Load the tokenizer of the stream."""
        return vocabulary.load((self.folder / TOKENIZER).read_text())


def open_tokens(folder: Path) -> OpenTokens:
    """Open the folder of a token stream."""
    return OpenTokens(folder, json.loads((folder / META).read_text()))


def token_stream(dataset_folder: Path, tokenizer: TokenizerSpec | str) -> Path:
    """Return the folder of a data set's token stream; encode it if it does not exist (seconds per 10 MB).

    `tokenizer` is the specification of one to train on the training part, or the text of an existing `tokenizer.json`
    (fine-tuning). Raises BadData if the data set is not text or the tokenizer cannot be trained.
    """
    data = open_dataset(dataset_folder)
    if data.kind != "text":
        raise BadData(f"a model of text needs a data set of text, but this one holds {data.kind} data")
    target = dataset_folder / f"tokens-{_key(tokenizer)}"
    if (target / META).exists():
        return target
    made = vocabulary.load(tokenizer) if isinstance(tokenizer, str) else _made(data, tokenizer)
    with staging(dataset_folder) as folder:
        splits = {split: _encode(data, split, made, folder) for split in data.splits}
        (folder / TOKENIZER).write_text(made.to_json())
        meta = {"kind": made.kind, "vocabulary": made.size, "splits": splits}
        (folder / META).write_text(json.dumps(meta, sort_keys=True))
        rename_into_place(folder, target)
    return target


def counted(stored: Stored) -> Stored:
    """Return the version with the `characters` and `words` of each part of a text added to `meta`.

    They are the numbers of tokens that a char or word model reads. Large parts are not counted.
    """
    if stored.meta["kind"] != "text":
        return stored
    data = OpenDataset(stored.folder, stored.meta)
    splits = {name: {**facts, **_lengths(data, name)} for name, facts in stored.meta["splits"].items()}
    return replace(stored, meta={**stored.meta, "splits": splits})


def _lengths(data: OpenDataset, split: str) -> dict[str, int]:
    if data.meta["splits"][split]["bytes"] > COUNTED_BYTES:
        return {}
    characters = words = 0
    for _, text in _pieces(data, split):
        characters += len(text)
        words += vocabulary.count_words(text, tokenised=bool(data.meta["tokenised"]))
    return {"characters": characters, "words": words}


def _key(tokenizer: TokenizerSpec | str) -> str:
    what = tokenizer if isinstance(tokenizer, str) else _named(tokenizer)
    return hashlib.sha256(f"{_REVISION}/{what}".encode()).hexdigest()[:16]


def _named(spec: TokenizerSpec) -> str:
    rare = f"/{spec.min_count} times" if spec.min_count > 1 else ""
    return f"{spec.kind}/{spec.size}{'/lowercase' if spec.lowercase else ''}{rare}"


def _made(data: OpenDataset, spec: TokenizerSpec) -> TextTokenizer:
    texts = (text for _, text in _pieces(data, "train"))
    return vocabulary.train(spec, texts, tokenised=bool(data.meta["tokenised"]))


def _encode(data: OpenDataset, split: str, tokenizer: TextTokenizer, folder: Path) -> dict[str, int]:
    dtype = np.uint16 if tokenizer.size <= 2**16 else np.uint32
    tokens, bounds = NpyWriter(folder / f"{split}.npy", dtype), NpyWriter(folder / f"{split}_docs.npy", np.int64)
    bounds.append(np.zeros(1, np.int64))
    for ends, texts in _batches(data, split):
        encoded = tokenizer.encode_batch(texts)
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        bounds.append(tokens.rows + np.cumsum(lengths)[np.asarray(ends, np.bool_)])
        tokens.append(np.concatenate(encoded))
    tokens.close()
    bounds.close()
    return {"tokens": tokens.rows, "documents": bounds.rows - 1}


def _batches(data: OpenDataset, split: str) -> Iterator[tuple[list[bool], list[str]]]:
    """Yield pieces of text in batches of a few MB, each piece with whether it ends a document."""
    ends: list[bool] = []
    texts: list[str] = []
    size = 0
    for end, text in _pieces(data, split):
        ends.append(end)
        texts.append(text)
        size += len(text)
        if size >= _PIECE_BYTES:
            yield ends, texts
            ends, texts, size = [], [], 0
    if texts:
        yield ends, texts


def _pieces(data: OpenDataset, split: str) -> Iterator[tuple[bool, str]]:
    """Yield documents in order as (ends here, text); long ones in several pieces, cut at a line or space."""
    with data.text_path(split).open("rb") as file:
        for begin, end in pairwise(_in_chunks(data.document_bounds(split))):
            carry, left = b"", end - begin
            while left > _PIECE_BYTES:
                carry += file.read(_PIECE_BYTES)
                left -= _PIECE_BYTES
                cut = _cut(carry)
                yield False, carry[:cut].decode()
                carry = carry[cut:]
            yield True, (carry + file.read(left)).decode()


def _in_chunks(bounds: npt.NDArray[np.int64]) -> Iterator[int]:
    for start in range(0, len(bounds), 100_000):
        yield from bounds[start : start + 100_000].tolist()


def _cut(data: bytes) -> int:
    """Return where to cut a long document: after the last line, before the last space, or between characters."""
    cut = data.rfind(b"\n") + 1 or data.rfind(b" ")
    if cut > 0:
        return cut
    cut = len(data)
    while cut and 0x80 <= data[cut - 1] < 0xC0:
        cut -= 1
    return cut - 1 if cut and data[cut - 1] >= 0xC0 else cut or len(data)
