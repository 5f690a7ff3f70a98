"""Previews of a data set: a picture with images of each class, the first texts, rows of a table, or names of files."""

from __future__ import annotations

from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from nightshift.names import FILES, IMAGE, TABLE
from shared.datasets import looks
from shared.datasets.store import open_dataset
from shared.image_grid import grid
from shared.lazy_numpy import np

if TYPE_CHECKING:
    import numpy.typing as npt

#: Most classes (rows) and images per class (columns).
ROWS, COLUMNS = 10, 10
#: Smaller images are enlarged to at least this side (pixels).
SHOWN_SIDE = 56
_GAP = 2
_TEXT = "text/plain; charset=utf-8"

#: Separator of the texts of a sample.
BETWEEN_TEXTS = f"\n{'-' * 40}\n"


def preview(folder: Path) -> tuple[bytes, str]:
    """Return a preview and its media type. Images and text: of the training part."""
    data = open_dataset(folder)
    if data.kind == IMAGE:
        return sample_picture(folder), "image/png"
    if data.kind == TABLE:
        from shared.datasets import table_look  # imports pyarrow, which only tables need

        return table_look.first_rows(folder), "text/csv; charset=utf-8"
    if data.kind == FILES:
        return "".join(f"{file['path']}\n" for file in looks.first_files(data.user_folder)).encode(), _TEXT
    texts = tagged_sentences(folder) if data.tags else sample_texts(folder)
    return BETWEEN_TEXTS.join(texts).encode(), _TEXT


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


def tagged_sentences(folder: Path, split: str = "train", count: int = 5, length: int = 100) -> list[str]:
    """Return the first sentences with a token and its tag per line, cut to `length` tokens."""
    data = open_dataset(folder)
    tags, names, texts, first = data.token_tags(split), data.tags, [], 0
    for text in islice(data.documents(split), count):
        tokens = text.removesuffix("\n").split(" ")
        pairs = zip(tokens[:length], tags[first : first + length], strict=False)
        texts.append("".join(f"{token}\t{names[tag]}\n" for token, tag in pairs))
        first += len(tokens)
    return texts


def _spread(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Choose up to `COLUMNS` of the rows (at least one), evenly from the first to the last."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(COLUMNS, len(rows))).astype(np.int64))]
