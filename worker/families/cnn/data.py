"""Image data sets for classifiers, resized to the model's input size and cached beside the data set.

Arrays are `x` uint8 [n, height, width, channels] and `y` int64 [n]. Small sets are read into memory, large ones are
memory-mapped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nightshift.errors import FieldError
from nightshift.families.learner import Array, Splits
from nightshift.families.training import Training
from shared.datasets.store import NpyWriter, OpenDataset, open_dataset, rename_into_place, staging
from shared.errors import BadData
from worker.families.cnn.weights import PIXEL_SCALE
from worker.training.classification.labels import labels_of_model
from worker.training.numerics.data_order import Rows, validation_split

#: Arrays up to this size (bytes) are read into memory. Too low: page faults during steps. Too high: memory.
IN_MEMORY_BYTES = 1 << 30
#: Images resized at a time.
CHUNK = 512
#: Fixed-point bits of a resampling weight. Integer arithmetic gives the same image on every machine.
WEIGHT_BITS = 15


def load_splits(dataset_dir: Path, model: ImageModel, training: Training) -> Splits:
    """Load the training, validation and test parts. Raises BadData if the data set does not fit the model."""
    stored = open_dataset(dataset_dir)
    _check(stored, model)
    return picture_splits(stored, (*model.image_size, model.image_channels), training)


def load_test(dataset_dir: Path, model: ImageModel, facts: Mapping[str, Any], tokenizer: str | None = None) -> Splits:
    """Load the test part for evaluating a trained model; labels are mapped to its classes by name.

    Raises BadData if the data set has classes that the model does not know.
    """
    stored = open_dataset(dataset_dir)
    _check_images(stored)
    own = labels_of_model(stored.classes, facts["classes"])
    splits = picture_splits(stored, (*model.image_size, model.image_channels), Training(validation_split=0))
    test = None if splits.test is None else {**splits.test, "y": own[splits.test["y"]]}
    return replace(splits, test=test, facts={**splits.facts, "classes": list(facts["classes"])})


def picture_splits(stored: OpenDataset, image: tuple[int, int, int], training: Training) -> Splits:
    """Return training, validation and test images of this size (height, width, channels), with labels."""
    folder = _in_size(stored, image)
    train, test = (
        {"x": _load(folder / f"{s}_x.npy"), "y": _load(stored.folder / f"{s}_y.npy")} for s in ("train", "test")
    )
    facts = {
        "classes": stored.classes,
        "image": list(image),
        "preprocessing": {"scale": PIXEL_SCALE, "resize": "bilinear"},
    }
    if "valid" in stored.splits and training.validation_split > 0:
        held_out = {"x": _load(folder / "valid_x.npy"), "y": _load(stored.folder / "valid_y.npy")}
        return Splits(train, held_out, test, facts, len(train["y"]), folder=stored.folder)
    rows, held_out_rows = validation_split(training.seed, len(train["y"]), training.validation_split)
    validation = {name: _rows(array, held_out_rows) for name, array in train.items()} if len(held_out_rows) else None
    return Splits(train, validation, test, facts, len(rows), rows, stored.folder)


def summary(stored: OpenDataset) -> dict[str, Any]:
    """Return what `ModelSpec.unfit` is told of a data set."""
    splits = {split: {"count": stored.count(split)} for split in stored.splits}
    return {"kind": stored.kind, "classes": stored.classes, "splits": splits}


def _check(stored: OpenDataset, model: ImageModel) -> None:
    _check_images(stored)
    unfit = model.unfit("the data set", summary(stored))
    if unfit is not None:
        raise BadData(f"{'.'.join(map(str, ('model', *unfit.loc)))}: {unfit.msg}")
    if stored.count("train") < 2:
        raise BadData("the data set needs at least two training images")


def _check_images(stored: OpenDataset) -> None:
    if stored.kind != "image":
        raise BadData(f"a classifier of images needs a data set of images, this one holds {stored.kind}")


class ImageModel(Protocol):
    """The settings that a model of images has, of whichever family."""

    @property
    def image_size(self) -> tuple[int, int]: ...

    @property
    def image_channels(self) -> int: ...

    def unfit(self, dataset: str, summary: Mapping[str, Any]) -> FieldError | None: ...


class RowView:
    """Selected rows of a memory-mapped array, read when sliced and never held in memory as a whole."""

    def __init__(self, array: Array, rows: Rows) -> None:
        self._array, self._rows = array, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: slice) -> Array:
        chosen: Array = self._array[self._rows[index]]
        return chosen


def _rows(array: Array, rows: Rows) -> Any:
    return RowView(array, rows) if isinstance(array, np.memmap) else array[rows]


def _load(path: Path) -> Array:
    """Read an array into memory, or map it privately (mode `c`, because torch needs writable memory)."""
    mode: Any = "c" if path.stat().st_size > IN_MEMORY_BYTES else None
    array: Array = np.load(path, mmap_mode=mode, allow_pickle=False)
    return array


# -- sizes ----------------------------------------------------------------------------------------


def _in_size(stored: OpenDataset, image: tuple[int, int, int]) -> Path:
    """Return the folder with `<split>_x.npy` in this size: the data set's or a cache made once in it."""
    if stored.image == image:
        return stored.folder
    cache = stored.folder / "resized-{}x{}x{}".format(*image)
    if not cache.exists():
        with staging(stored.folder) as folder:
            for split in stored.splits:
                _write_resized(stored.x(split), folder / f"{split}_x.npy", image)
            rename_into_place(folder, cache)
    return cache


def _write_resized(images: Array, path: Path, image: tuple[int, int, int]) -> None:
    writer = NpyWriter(path, np.uint8, image)
    for start in range(0, len(images), CHUNK):
        writer.append(fit(images[start : start + CHUNK], image))
    writer.close()


def fit(images: Array, image: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Resize images [n, h, w, c] and convert their channels: bilinear, averaging to shrink (as Pillow)."""
    height, width, channels = image
    resized = _resample(_resample(_with_channels(images, channels), 1, height), 2, width)
    return np.ascontiguousarray(resized, np.uint8)


def _with_channels(images: Array, channels: int) -> Array:
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images[..., :1], 3, axis=3)
    luma = images[..., :3].astype(np.int32) @ np.array([299, 587, 114], np.int32)
    return ((luma + 500) // 1000)[..., None].astype(np.uint8)


def _resample(images: Array, axis: int, size: int) -> Array:
    if images.shape[axis] == size:
        return images
    total = 1 << WEIGHT_BITS
    indices, weights = _taps(images.shape[axis], size, total)
    shape = [size if a == axis else 1 for a in range(images.ndim)]
    summed = sum(
        np.take(images, index, axis).astype(np.int32) * weight.reshape(shape)
        for index, weight in zip(indices, weights, strict=True)
    )
    return np.asarray((summed + total // 2) >> WEIGHT_BITS, np.uint8)


def _taps(old: int, new: int, total: int) -> tuple[Array, Array]:
    """Return indices and integer weights (of sum `total`) of a bilinear resampling, each [taps, new].

    The weights form a triangle around each output pixel's center.
    """
    scale = old / new
    reach = max(1.0, scale)
    center = (np.arange(new) + 0.5) * scale
    first = np.floor(center - reach).astype(np.int64)
    index = first + np.arange(math.ceil(2 * reach) + 1)[:, None]
    weight = np.maximum(0.0, 1 - np.abs(index + 0.5 - center) / reach) * ((index >= 0) & (index < old))
    fixed = np.floor(weight / weight.sum(axis=0) * total).astype(np.int32)
    fixed[weight.argmax(axis=0), np.arange(new)] += total - fixed.sum(axis=0)
    return index.clip(0, old - 1), fixed
