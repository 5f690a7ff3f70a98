"""Uploads of data sets: a file as it is, a folder as a zip in a temporary file."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nightshift.errors import InvalidRequest

#: Formats that are compressed already and are stored in the zip as they are.
COMPRESSED = frozenset({".jpg", ".jpeg", ".png", ".gz", ".npz", ".zip", ".parquet"})


@contextmanager
def opened(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Open what is uploaded, as (file name, file); nothing is read into memory. Raises `InvalidRequest`."""
    if path.is_dir():
        with tempfile.TemporaryFile(prefix="nightshift-upload-") as packed:
            if pack(path, packed) == 0:
                raise InvalidRequest(f"{path} contains no files.")
            packed.seek(0)
            yield f"{path.resolve().name}.zip", packed
    elif path.is_file():
        with path.open("rb") as file:
            yield path.name, file
    else:
        raise InvalidRequest(f"{path} is neither a file nor a folder on this machine.")


def pack(folder: Path, target: BinaryIO) -> int:
    """Zip every visible file of `folder` into `target`, and return the number of files."""
    count = 0
    with zipfile.ZipFile(target, "w", allowZip64=True, strict_timestamps=False) as archive:
        for root, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in names if not name.startswith(".")):
                file = Path(root, name)
                if not file.is_file():
                    continue
                method = zipfile.ZIP_STORED if file.suffix.lower() in COMPRESSED else zipfile.ZIP_DEFLATED
                archive.write(file, file.relative_to(folder), compress_type=method, compresslevel=1)
                count += 1
    return count
