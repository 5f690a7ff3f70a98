"""The data sets every installation has: `digits` at once, the others when their published files can be had."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shared.datasets.building import Images, ImageSource, ImageSplit

BUILTIN = ("digits", "mnist", "fashion_mnist", "cifar10")

_DIGITS = Path(__file__).with_name("digits.csv.gz")


def digits() -> ImageSource:
    """scikit-learn's 1,797 handwritten digits, 8x8, pixels 0 … 16 spread over 0 … 255 (licence: digits.LICENCE.txt)."""
    with gzip.open(_DIGITS, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)

    def chunks() -> Iterator[Images]:
        yield images

    return ImageSource([str(digit) for digit in range(10)], (8, 8, 1), {"train": ImageSplit(table[:, 64], chunks)})
