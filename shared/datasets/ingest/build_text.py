"""Write text data as a stored version, in bounded memory.

Without a test part, a labeled set is split 80/20 per class, and sentences with tags 80/20 in an order that depends on
their text alone; any other text is split at the end of the document nearest to 80 % of its bytes, so that a language
model is tested on text that follows its training text.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from nightshift.errors import InvalidRequest
from nightshift.names import TEXT, DataKind
from shared.datasets.ingest.build import NO_LIMITS, TEST_SHARE, Labels, Limits, histogram, stratified_test_rows
from shared.datasets.store import NpyWriter, Stored, load_array, publish, staging
from shared.lazy_numpy import np

if TYPE_CHECKING:
    import numpy.typing as npt

_COPY_BYTES = 4_000_000
#: Bytes searched for a line end or space at which a text of one document is cut.
_CUT_WITHIN = 100_000

_TOO_FEW_SENTENCES = "there are too few sentences for a test part: each is the only one with some tag"

Bounds: TypeAlias = "npt.NDArray[np.int64]"


@dataclass(frozen=True)
class Block:
    """Some bytes of a text, and the offsets where documents end in it (ascending; may include its length)."""

    data: bytes
    ends: Sequence[int]


#: A tag is stored as its place among the names of the tags.
TAG_TYPE = "uint16"
TagIds: TypeAlias = "npt.NDArray[np.uint16]"


@dataclass(frozen=True)
class TokenTags:
    """The tags of all tokens in order, and the number of tokens of each document."""

    ids: TagIds
    lengths: npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextSplit:
    """A split of text; `blocks()` yields it in order and ends with a document's end.

    It has one label per document, or one tag per token. Tokens are then separated by single spaces.
    """

    blocks: Callable[[], Iterator[Block]]
    labels: Labels | None = None
    tags: TokenTags | None = None


@dataclass(frozen=True)
class TextSource:
    """Text found by a format's reader."""

    splits: Mapping[str, TextSplit]  # `train` at least
    classes: list[str] = field(default_factory=list)
    #: Words are already separated by spaces, as in WikiText.
    tokenised: bool = False
    #: Estimated stored size before reading (bytes).
    size: int = 0
    #: The names of the tags of tokens.
    tags: list[str] = field(default_factory=list)
    kind: ClassVar[DataKind] = TEXT


def store_text(datasets_root: Path, source: TextSource, limits: Limits = NO_LIMITS) -> Stored:
    """Write a version. Errors of the source are passed on, and nothing is left on disk."""
    with staging(datasets_root) as folder:
        limits.check(source.size, folder)
        for name, split in source.splits.items():
            _write(folder, name, split, limits)
        own_test = "test" in source.splits
        if not own_test:
            _divide(folder, source.splits["train"])
        names = [name for name in ("train", "valid", "test") if (folder / f"{name}.txt").exists()]
        meta = {
            "kind": TEXT,
            "classes": source.classes,
            "tokenised": source.tokenised,
            "split": "own" if own_test else _how_divided(source),
            "splits": {name: describe(folder, name, source.classes, source.tags) for name in names},
        }
        if source.tags:
            meta["tags"] = source.tags
        return publish(folder, meta)


def _how_divided(source: TextSource) -> str:
    if source.tags:
        return "80/20 by sentence"
    return "stratified 80/20" if source.classes else "last 20 %"


def _write(folder: Path, name: str, split: TextSplit, limits: Limits) -> None:
    written = checked = 0
    bounds = NpyWriter(folder / f"{name}_docs.npy", np.int64)
    bounds.append(np.zeros(1, np.int64))
    with (folder / f"{name}.txt").open("wb") as file:
        for block in split.blocks():
            file.write(block.data)
            bounds.append(np.asarray(block.ends, np.int64) + written)
            written += len(block.data)
            if written - checked > 100_000_000:
                limits.check(written, folder)
                checked = written
    bounds.close()
    if split.labels is not None:
        np.save(folder / f"{name}_y.npy", split.labels)
    if split.tags is not None:
        np.save(folder / f"{name}_tags.npy", split.tags.ids)


def describe(folder: Path, name: str, classes: Sequence[str], tags: Sequence[str]) -> dict[str, Any]:
    """Return the entry of a part in `meta.json`."""
    bounds = load_array(folder / f"{name}_docs.npy")
    facts: dict[str, Any] = {"count": len(bounds) - 1, "bytes": int(bounds[-1])}
    if classes:
        facts["classes"] = histogram(load_array(folder / f"{name}_y.npy"), classes)
    if tags:
        ids = load_array(folder / f"{name}_tags.npy")
        facts |= {"tokens": len(ids), "tags": histogram(ids, tags)}
    return facts


# -- a test part ----------------------------------------------------------------------------------


def _divide(folder: Path, train: TextSplit) -> None:
    """Split `test` off `train`."""
    bounds = load_array(folder / "train_docs.npy")
    if train.labels is not None:
        in_test = stratified_test_rows(train.labels)
        _divide_by_document(folder, bounds, in_test)
        _divide_rows(folder, "y", train.labels, in_test)
    elif train.tags is not None:
        in_test = _test_sentences(train.tags, _content_key(folder / "train.txt"))
        _divide_by_document(folder, bounds, in_test)
        _divide_rows(folder, "tags", train.tags.ids, np.repeat(in_test, train.tags.lengths))
    else:
        _divide_at(folder, bounds, _cut(folder / "train.txt", bounds))


def _content_key(path: Path) -> int:
    """Return a number that depends on the content of a file alone."""
    with path.open("rb") as file:
        return int.from_bytes(hashlib.file_digest(file, "sha256").digest()[:8], "little")


def _test_sentences(tags: TokenTags, key: int, share: float = TEST_SHARE) -> npt.NDArray[np.bool_]:
    """Choose `share` of the sentences. Of each tag, one sentence stays in the training part."""
    count = len(tags.lengths)
    rank = np.empty(count, np.int64)
    # Raw Philox output: stable across numpy versions, unlike Generator.permutation.
    order = np.argsort(np.random.Philox(key=key).random_raw(count), kind="stable")
    rank[order] = np.arange(count)
    last = np.full(int(tags.ids.max()) + 1, -1, np.int64)
    np.maximum.at(last, tags.ids, np.repeat(rank, tags.lengths))
    chosen = np.setdiff1d(np.arange(count), last)[: min(max(1, round(count * share)), count - 1)]
    in_test = np.zeros(count, np.bool_)
    in_test[order[chosen]] = True
    if not len(chosen):
        raise InvalidRequest.field(("file",), _TOO_FEW_SENTENCES)
    return in_test


def _divide_by_document(folder: Path, bounds: Bounds, in_test: npt.NDArray[np.bool_]) -> None:
    whole = folder / "train.txt"
    with (
        whole.open("rb") as source,
        (folder / "train.new").open("wb") as train,
        (folder / "test.txt").open("wb") as test,
    ):
        for length, tested in zip(np.diff(bounds), in_test, strict=True):
            (test if tested else train).write(source.read(int(length)))
    (folder / "train.new").replace(whole)
    lengths = np.diff(bounds)
    for part, chosen in (("train", ~in_test), ("test", in_test)):
        np.save(folder / f"{part}_docs.npy", np.concatenate(([0], np.cumsum(lengths[chosen]))))


def _divide_rows(folder: Path, name: str, values: npt.NDArray[Any], in_test: npt.NDArray[np.bool_]) -> None:
    for part, chosen in (("train", ~in_test), ("test", in_test)):
        np.save(folder / f"{part}_{name}.npy", values[chosen])


def _cut(path: Path, bounds: Bounds) -> int:
    """Return the offset where the test part begins: a document's end, or white space in a single document."""
    size = int(bounds[-1])
    aim = round(size * (1 - TEST_SHARE))
    if len(bounds) > 2:
        at = int(np.clip(np.searchsorted(bounds, aim), 1, len(bounds) - 2))
        return int(min(bounds[at - 1] or bounds[at], bounds[at], key=lambda bound: abs(int(bound) - aim)))
    with path.open("rb") as file:
        file.seek(aim)
        window = file.read(_CUT_WITHIN)
    places = [window.find(mark, 0, size - aim - 1) for mark in (b"\n", b" ")]  # something must follow
    ahead = next((place + 1 for place in places if place >= 0), 0)
    while ahead < len(window) and 0x80 <= window[ahead] < 0xC0:  # not inside a character
        ahead += 1
    if not 0 < aim + ahead < size:
        raise InvalidRequest.field(("file",), "the text is too short to have a training and a test part")
    return aim + ahead


def _divide_at(folder: Path, bounds: Bounds, cut: int) -> None:
    with (folder / "train.txt").open("rb+") as train, (folder / "test.txt").open("wb") as test:
        train.seek(cut)
        shutil.copyfileobj(train, test, _COPY_BYTES)
        train.truncate(cut)
    at = int(np.searchsorted(bounds, cut))
    starts_document = bool(bounds[at] == cut)
    _save_bounds(folder / "test_docs.npy", bounds[at + starts_document :], shift=cut, first=0)
    _save_bounds(folder / "train.new", bounds[1:at], shift=0, first=0, last=cut)
    os.replace(folder / "train.new", folder / "train_docs.npy")


def _save_bounds(path: Path, bounds: Bounds, *, shift: int, first: int, last: int | None = None) -> None:
    writer = NpyWriter(path, np.int64)
    writer.append(np.array([first], np.int64))
    for start in range(0, len(bounds), 500_000):
        writer.append(bounds[start : start + 500_000] - shift)
    if last is not None:
        writer.append(np.array([last], np.int64))
    writer.close()
