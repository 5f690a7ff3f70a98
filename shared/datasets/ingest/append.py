"""A new version of a data set: the rows of the old one, then new ones, streamed from disk to disk.

New rows go to the part that their files name; files without parts are training data. So the test part stays the same,
byte for byte, unless the new data has a test part, and metrics stay comparable between versions.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightshift.errors import InvalidRequest
from nightshift.names import data_of
from shared.datasets.ingest.build import NO_LIMITS, ImageSource, ImageSplit, Labels, Limits, as_bytes, histogram
from shared.datasets.ingest.build_text import TAG_TYPE, TextSource, TextSplit, describe
from shared.datasets.store import SPLITS, Array, NpyWriter, OpenDataset, Stored, publish, staging
from shared.lazy_numpy import np

if TYPE_CHECKING:
    from shared.datasets.formats import Source

#: Rows or bytes copied at a time.
_ROWS, _BYTES = 20_000, 4_000_000


def store_appended(datasets_root: Path, base: OpenDataset, given: Source, limits: Limits = NO_LIMITS) -> Stored:
    """Write a version with the rows of `base`, then those of `given`.

    Classes and tags are matched by name and new ones come last, so those of `base` keep their numbers. Raises
    InvalidRequest if the two differ in kind, image shape or in having labels or tags.
    """
    source = _checked(base, given)
    classes, tags = base.classes, base.tags
    number = _numbered(classes, source.classes)
    tag_number = _numbered(tags, source.tags if isinstance(source, TextSource) else [])
    with staging(datasets_root) as folder:
        limits.check(int(base.meta["size_bytes"]) + _size(source), folder)
        for split in SPLITS:
            if split not in source.splits:
                _copy(base, split, folder)
            elif isinstance(source, ImageSource):
                _extend_images(base, split, source.splits[split], number, folder)
            else:
                _extend_text(base, split, source.splits[split], number, tag_number, folder)
        found = [split for split in SPLITS if split in base.splits or split in source.splits]
        counts = {split: _describe(folder, base.kind, split, classes, tags) for split in found}
        named = {"classes": classes, **({"tags": tags} if tags else {})}
        return publish(folder, {**base.meta, **named, "splits": counts})


def _numbered(known: list[str], names: Sequence[str]) -> Labels:
    """Add new names to those known; return the number of each name."""
    known += [name for name in names if name not in known]
    return np.array([known.index(name) for name in names], np.int64)


def _checked(base: OpenDataset, source: Source) -> ImageSource | TextSource:
    if not isinstance(source, ImageSource | TextSource) or source.kind != base.kind:
        raise InvalidRequest.field(
            ("file",), f"holds {data_of(source.kind)}, but the data set holds {data_of(base.kind)}"
        )
    if isinstance(source, ImageSource) and tuple(source.image) != base.image:
        sizes = ["x".join(map(str, shape)) for shape in (source.image, base.image)]
        raise InvalidRequest.field(
            ("file",), f"holds images of {sizes[0]} (height, width, channels), but the data set holds {sizes[1]}"
        )
    if isinstance(source, TextSource) and bool(source.tags) != bool(base.tags):
        raise _either_has("tags", bool(source.tags), "sentences in columns: --format conll")
    if bool(source.classes) != bool(base.classes):
        raise _either_has("labels", bool(source.classes), "plain text in folders: --format text")
    return source


def _either_has(what: str, source_has: bool, hint: str) -> InvalidRequest:
    found = f"has {what}, but the data set has none" if source_has else f"has no {what}, but the data set has"
    return InvalidRequest.field(("file",), f"{found} ({hint})")


def _size(source: ImageSource | TextSource) -> int:
    if isinstance(source, TextSource):
        return source.size
    return sum(len(split.labels) for split in source.splits.values()) * (int(np.prod(source.image)) + 8)


def _copy(base: OpenDataset, split: str, folder: Path) -> None:
    arrays = [f"{split}_{name}.npy" for name in ("x", "y", "ids", "docs", "tags")]
    for name in (f"{split}.txt", *arrays):
        if (base.folder / name).exists():
            shutil.copyfile(base.folder / name, folder / name)


def _describe(folder: Path, kind: str, split: str, classes: Sequence[str], tags: Sequence[str]) -> dict[str, Any]:
    if kind == "text":
        return describe(folder, split, classes, tags)
    labels = np.load(folder / f"{split}_y.npy")
    return {"count": len(labels), "classes": histogram(labels, classes)}


def _write(path: Path, dtype: Any, row_shape: tuple[int, ...], old: Path | None, new: Iterable[Array]) -> int:
    """Write the rows of the file `old`, then new ones; return their number."""
    writer = NpyWriter(path, dtype, row_shape)
    if old is not None:
        writer.append_file(old)
    for part in new:
        writer.append(part)
    writer.close()
    return writer.rows


def _old_file(base: OpenDataset, split: str, name: str) -> Path | None:
    return base.folder / name if split in base.splits else None


# -- images ---------------------------------------------------------------------------------------


def _extend_images(base: OpenDataset, split: str, new: ImageSplit, number: Labels, folder: Path) -> None:
    before = base.count(split) if split in base.splits else 0
    name = f"{split}_x.npy"
    rows = _write(folder / name, np.uint8, base.image, _old_file(base, split, name), new.chunks())
    if rows != before + len(new.labels):
        raise ValueError(f"{split}: {len(new.labels)} labels but {rows - before} images")  # a bug in a reader
    _extend_labels(base, split, new.labels, number, folder)
    _extend_ids(base.ids(split) if before else None, before, new, folder / f"{split}_ids.npy")


def _extend_labels(base: OpenDataset, split: str, labels: Labels, number: Labels, folder: Path) -> None:
    name = f"{split}_y.npy"
    _write(folder / name, np.int64, (), _old_file(base, split, name), [number[labels]])


def _extend_ids(old: Array | None, before: int, new: ImageSplit, path: Path) -> None:
    """Write the ids of old and new rows; a row without a file name gets its number."""
    if old is None and new.ids is None:
        return
    kept = np.arange(before).astype("S") if old is None else old
    added = np.arange(before, before + len(new.labels)).astype("S") if new.ids is None else as_bytes(new.ids)
    width = f"S{max(kept.dtype.itemsize, added.dtype.itemsize, 1)}"
    starts = range(0, len(kept), _ROWS)
    _write(path, width, (), None, chain((kept[at : at + _ROWS].astype(width) for at in starts), [added.astype(width)]))


# -- text -----------------------------------------------------------------------------------------


def _extend_text(
    base: OpenDataset, split: str, new: TextSplit, number: Labels, tag_number: Labels, folder: Path
) -> None:
    name = f"{split}_docs.npy"
    bounds, old = NpyWriter(folder / name, np.int64), _old_file(base, split, name)
    if old is not None:
        bounds.append_file(old)
    else:
        bounds.append(np.zeros(1, np.int64))
    with (folder / f"{split}.txt").open("wb") as file:
        if old is not None:
            with base.text_path(split).open("rb") as text:
                shutil.copyfileobj(text, file, _BYTES)
        for block in new.blocks():
            bounds.append(np.asarray(block.ends, np.int64) + file.tell())
            file.write(block.data)
    bounds.close()
    if new.labels is not None:
        _extend_labels(base, split, new.labels, number, folder)
    if new.tags is not None:
        name = f"{split}_tags.npy"
        _write(folder / name, TAG_TYPE, (), _old_file(base, split, name), [tag_number[new.tags.ids]])
