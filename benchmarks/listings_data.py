"""Beginnings of published data sets, as files that can be registered, for `benchmarks.bench_listings`."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from nightshift.families.learner import Array

#: Of CIFAR-10's binary files: labels of cats and dogs, bytes of a record, side of an image.
CAT, DOG, RECORD, SIDE = 3, 5, 3073, 32
#: Side of the pictures that `cats-vs-dogs` reads.
WANTED_SIDE = 224
TEST_PICTURES = 200


def first_rows(mnist: Path, rows: int, out: Path) -> Path:
    """Write the first training rows and all test rows of MNIST; return the file."""
    path = out / f"digits-{rows}.npz"
    if not path.exists():
        x, y = _idx(mnist / "train-images-idx3-ubyte.gz"), _idx(mnist / "train-labels-idx1-ubyte.gz")
        x_test, y_test = _idx(mnist / "t10k-images-idx3-ubyte.gz"), _idx(mnist / "t10k-labels-idx1-ubyte.gz")
        np.savez(path, x=x[:rows], y=y[:rows], x_test=x_test, y_test=y_test)
    return path


def _idx(path: Path) -> Array:
    data = gzip.decompress(path.read_bytes())
    sides = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(sides)).reshape(sides)


def cats_and_dogs(folder: Path, rows: int, out: Path) -> Path:
    """Write cats and dogs of CIFAR-10, scaled up; return the file."""
    paths = sorted(folder.glob("cifar10*/*.bin"))
    if not paths:
        raise FileNotFoundError(f"{folder}/cifar10*/*.bin")
    train, test = (
        np.concatenate(
            [np.fromfile(path, np.uint8).reshape(-1, RECORD) for path in paths if ("test" in path.name) == of]
        )
        for of in (False, True)
    )
    (x, y), (x_test, y_test) = _scaled(train, rows), _scaled(test, TEST_PICTURES)
    path = out / "pictures.npz"
    np.savez(path, x=x, y=y, x_test=x_test, y_test=y_test)
    return path


def _scaled(records: Array, most: int) -> tuple[Array, Array]:
    chosen = records[np.isin(records[:, 0], (CAT, DOG))][:most]
    small = chosen[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    size = (WANTED_SIDE, WANTED_SIDE)
    x = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in small])
    return x, (chosen[:, 0] == DOG).astype(np.int64)


def first_tokens(wikitext: Path, tokens: int, out: Path) -> Path:
    """Write the beginnings of WikiText-2's training and test parts; return the folder."""
    folder = out / "text"
    folder.mkdir(exist_ok=True)
    for part, count in (("train", tokens), ("test", tokens // 4)):
        words, lines = 0, []
        with gzip.open(wikitext / f"wiki.{part}.tokens.gz", "rt", encoding="utf-8") as file:
            for line in file:
                if words >= count:
                    break
                lines.append(line)
                words += len(line.split()) + 1
        (folder / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    return folder
