"""Write image data as a stored version, in one sequential pass and bounded memory.

A set without a test part gets a fixed, stratified 80/20 split. It depends on the labels alone, so the same content
always gets the same split, and it is part of the version.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from nightshift.errors import InvalidRequest, StorageFull, TooLarge
from nightshift.names import IMAGE, DataKind
from shared.datasets.store import NpyWriter, Stored, publish, staging
from shared.lazy_numpy import np

if TYPE_CHECKING:
    import numpy.typing as npt

TEST_SHARE = 0.2
#: Free disk space that must remain after a version is stored (bytes). Too low: none is left for SQLite and checkpoints.
_SPARE_BYTES = 200_000_000

Images: TypeAlias = "npt.NDArray[np.uint8]"
Labels: TypeAlias = "npt.NDArray[np.int64]"


@dataclass(frozen=True)
class ImageSplit:
    """A split of images; `chunks()` yields uint8 [m, h, w, c] in the order of `labels`, a few MB each."""

    labels: Labels
    chunks: Callable[[], Iterator[Images]]
    ids: Sequence[str] | None = None


@dataclass(frozen=True)
class ImageSource:
    """Images found by a format's reader."""

    classes: list[str]
    image: tuple[int, int, int]
    splits: Mapping[str, ImageSplit]  # `train` at least
    kind: ClassVar[DataKind] = IMAGE


@dataclass(frozen=True)
class Limits:
    """Limits of a registration. `stored_bytes`: the largest version (bytes)."""

    stored_bytes: int = 10**15

    def check(self, needed: int, folder: Path) -> None:
        """Raise TooLarge or StorageFull if `needed` bytes cannot be stored."""
        if needed > self.stored_bytes:
            raise TooLarge(
                f"The data set would take {needed:,} bytes; at most {self.stored_bytes:,} are allowed "
                "(NIGHTSHIFT_MAX_DATASET_BYTES)."
            )
        free = max(0, shutil.disk_usage(folder).free - _SPARE_BYTES)
        if needed > free:
            raise StorageFull(
                f"The data set would take {needed:,} bytes, but the server's disk has {free:,} left for it; nothing "
                "was stored. The operator can free space or set another NIGHTSHIFT_STORAGE_URL."
            )


NO_LIMITS = Limits()


def stratified_test_rows(labels: Labels, share: float = TEST_SHARE) -> npt.NDArray[np.bool_]:
    """Choose the rows of the test part: `share` of each class, at least one of a class with two or more rows."""
    chosen = np.zeros(len(labels), np.bool_)
    order = np.argsort(labels, kind="stable")
    if len(labels) == 0:
        return chosen
    starts: npt.NDArray[np.int64] = np.flatnonzero(np.diff(labels[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        chosen[_draw(rows, int(labels[rows[0]]), share)] = True
    return chosen


def _draw(rows: npt.NDArray[np.int64], label: int, share: float) -> npt.NDArray[np.int64]:
    count = min(max(1, round(len(rows) * share)), len(rows) - 1)
    # Raw Philox output: stable across numpy versions, unlike Generator.permutation.
    keys = np.random.Philox(key=label).random_raw(len(rows))
    return rows[np.argsort(keys, kind="stable")[:count]]


def histogram(labels: npt.NDArray[Any], classes: Sequence[str]) -> dict[str, int]:
    """Count the rows of each class, or the tokens of each tag, by name."""
    counts = np.bincount(labels, minlength=len(classes))
    return {name: int(n) for name, n in zip(classes, counts, strict=True)}


def check_classes(labels: Labels, classes: Sequence[str], where: str) -> None:
    """Raise InvalidRequest unless at least two classes have rows."""
    if len(labels) == 0:
        raise InvalidRequest.field(("file", where), "holds no rows; a data set needs at least two rows per class")
    if len(np.unique(labels)) < 2:
        only = classes[int(labels[0])]
        raise InvalidRequest.field(("file", where), f"has only one class ({only}); a classifier needs at least two")


# -- images ---------------------------------------------------------------------------------------


def store_images(datasets_root: Path, source: ImageSource, limits: Limits = NO_LIMITS) -> Stored:
    """Write a version. Errors of the source are passed on, and nothing is left on disk."""
    check_classes(source.splits["train"].labels, source.classes, "train")
    with staging(datasets_root) as folder:
        pixels = int(np.prod(source.image))
        limits.check(sum(len(split.labels) for split in source.splits.values()) * (pixels + 8), folder)
        own_test = "test" in source.splits
        labels: dict[str, Labels] = {}
        for name, split in source.splits.items():
            labels |= _write_split(folder, source, name, split, divide=name == "train" and not own_test)
        return publish(folder, _image_meta(source, labels, own_test))


def _image_meta(source: ImageSource, labels: Mapping[str, Labels], own_test: bool) -> dict[str, Any]:
    return {
        "kind": IMAGE,
        "classes": source.classes,
        "image": list(source.image),
        "split": "own" if own_test else "stratified 80/20",
        "splits": {
            name: {"count": len(rows), "classes": histogram(rows, source.classes)} for name, rows in labels.items()
        },
    }


def _write_split(folder: Path, source: ImageSource, name: str, split: ImageSplit, *, divide: bool) -> dict[str, Labels]:
    in_test = stratified_test_rows(split.labels) if divide else np.zeros(len(split.labels), np.bool_)
    parts = {name: ~in_test, "test": in_test} if divide else {name: ~in_test}
    with ExitStack() as closing:
        writers = {part: NpyWriter(folder / f"{part}_x.npy", np.uint8, source.image) for part in parts}
        for writer in writers.values():
            closing.callback(writer.close)
        row = 0
        for chunk in split.chunks():
            for part, chosen in parts.items():
                here = chosen[row : row + len(chunk)]
                writers[part].append(chunk if here.all() else chunk[here])
            row += len(chunk)
    if row != len(split.labels):
        raise ValueError(f"{name}: {len(split.labels)} labels but {row} images")  # a bug in a reader
    for part, chosen in parts.items():
        np.save(folder / f"{part}_y.npy", split.labels[chosen])
        if split.ids is not None:
            np.save(
                folder / f"{part}_ids.npy", as_bytes([i for i, keep in zip(split.ids, chosen, strict=True) if keep])
            )
    return {part: split.labels[chosen] for part, chosen in parts.items()}


def as_bytes(ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Encode ids as a UTF-8 byte array."""
    return np.array([i.encode("utf-8", "backslashreplace") for i in ids], np.bytes_)
