"""Pictures of images in rows, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shared.lazy_numpy import np
from shared.optional_imports import need

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

_WHITE = 255


def picture(pixels: npt.NDArray[Any]) -> Image:
    """Return a picture of uint8 pixels [height, width, 1 or 3]."""
    made: Image = need("PIL.Image", "pillow").fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return made


def grid(rows: Sequence[Sequence[npt.NDArray[Any]]], columns: int, factor: int, gap: int) -> Image:
    """Return rows of uint8 images [h, w, c] on white, `factor` times as large and without smoothing."""
    height, width, channels = rows[0][0].shape
    cell = np.array([height * factor + gap, width * factor + gap])
    sheet = np.full((*(cell * [len(rows), columns] + gap), channels), _WHITE, np.uint8)
    for line, row in enumerate(rows):
        for column, image in enumerate(row):
            top, left = gap + cell * (line, column)
            large = image.repeat(factor, axis=0).repeat(factor, axis=1)
            sheet[top : top + height * factor, left : left + width * factor] = large
    return picture(sheet)
