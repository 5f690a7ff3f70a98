"""Previews of a data set: a picture with images of each class, or the beginning of a text."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.datasets.store import open_dataset
from shared.image_grid import grid

#: Most classes (rows) and images per class (columns).
ROWS, COLUMNS = 10, 10
#: Smaller images are enlarged to at least this side (pixels).
SHOWN_SIDE = 56
_GAP = 2

#: Separator of the texts of a sample.
BETWEEN_TEXTS = f"\n{'-' * 40}\n"


def preview(folder: Path) -> tuple[bytes, str]:
    """Return a preview of the training part and its media type: a PNG of images or plain text."""
    if open_dataset(folder).kind == "image":
        return sample_picture(folder), "image/png"
    return BETWEEN_TEXTS.join(sample_texts(folder)).encode(), "text/plain; charset=utf-8"


def sample_picture(folder: Path, split: str = "train") -> bytes:
    """Return a PNG with one row per class: `COLUMNS` images spread evenly over the split.

    Raises ValueError for text.
    """
    data = open_dataset(folder)
    if data.kind != "image":
        raise ValueError("only a data set of images has a sample picture; take sample_texts")
    labels = data.y(split)
    found = [np.flatnonzero(labels == label) for label in range(min(ROWS, len(data.classes)))]
    images, factor = data.x(split), max(1, -(-SHOWN_SIDE // max(data.image[:2])))
    rows = [[images[number] for number in _spread(numbers)] for numbers in found if len(numbers)]
    buffer = BytesIO()
    grid(rows, max(map(len, rows)), factor, _GAP).save(buffer, "PNG")
    return buffer.getvalue()


def sample_texts(folder: Path, split: str = "train", count: int = 5, length: int = 500) -> list[str]:
    """Return the first documents of a text, cut to `length` characters. Raises ValueError for images."""
    data = open_dataset(folder)
    if data.kind != "text":
        raise ValueError("only a data set of text has sample texts; take sample_picture")
    texts = []
    with data.text_path(split).open("rb") as file:
        for begin, end in pairwise(data.document_bounds(split)[: count + 1].tolist()):
            file.seek(begin)
            texts.append(file.read(min(end - begin, 4 * length)).decode(errors="ignore")[:length])
    return texts


def _spread(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Choose up to `COLUMNS` of the rows (at least one), evenly from the first to the last."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(COLUMNS, len(rows))).astype(np.int64))]
