"""Small files in each data set format, intact or damaged on purpose."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def idx(array: np.ndarray, dtype: int = 0x08) -> bytes:
    """Return an IDX file: magic, dimensions, big-endian sizes, bytes."""
    return bytes([0, 0, dtype, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def labelled_images(rows: int = 40, shape: tuple[int, ...] = (6, 5), classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return images whose first pixel is their label, so that a test can check that both stay together."""
    labels = np.arange(rows) % classes
    images = np.random.default_rng(0).integers(0, 256, (rows, *shape), np.uint8)
    images[(slice(None), *[0] * len(shape))] = labels
    return images, labels.astype(np.uint8)


def idx_folder(folder: Path, *, test: bool = True, packed: bool = True) -> Path:
    """Write the four files of MNIST with few small images."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, rows in (("train", 40), ("t10k", 12)) if test else (("train", 40),):
        images, labels = labelled_images(rows)
        for part, dims, array in (("images", 3, images), ("labels", 1, labels)):
            name = folder / f"{stem}-{part}-idx{dims}-ubyte"
            if packed:
                name.with_name(name.name + ".gz").write_bytes(gzip.compress(idx(array)))
            else:
                name.write_bytes(idx(array))
    return folder


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def picture(
    size: tuple[int, int] = (20, 10), colour: tuple[int, ...] | int = (200, 10, 10), format: str = "JPEG"
) -> bytes:
    """Return an image file of one color; `size` is (width, height)."""
    buffer = io.BytesIO()
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(buffer, format)
    return buffer.getvalue()


def class_folders(folder: Path, per_class: int = 5, suffix: str = ".jpg") -> Path:
    """Write red cats and blue dogs of mixed sizes."""
    for name, colour in (("cats", (250, 0, 0)), ("dogs", (0, 0, 250))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            data = picture((20 + number, 30 - number), colour, "JPEG" if suffix == ".jpg" else "PNG")
            (folder / name / f"{number}{suffix}").write_bytes(data)
    return folder


def zipped(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def zipped_folder(path: Path, folder: Path, prefix: str = "") -> Path:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return zipped(path, {prefix + str(file.relative_to(folder)): file.read_bytes() for file in files})
