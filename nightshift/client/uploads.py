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
def opened(path: Path, *, all_files: bool = False) -> Iterator[tuple[str, BinaryIO]]:
    """Open what is uploaded, as (file name, file); nothing is read into memory. Raises `InvalidRequest`.

    `all_files`: with hidden ones.
    """
    if path.is_dir():
        with tempfile.TemporaryFile(prefix="nightshift-upload-") as packed:
            if pack(path, packed, all_files=all_files) == 0:
                raise InvalidRequest(f"{path} contains no files.")
            packed.seek(0)
            yield f"{path.resolve().name}.zip", packed
    elif path.is_file():
        with path.open("rb") as file:
            yield path.name, file
    else:
        raise InvalidRequest(f"{path} is neither a file nor a folder on this machine.")


def pack(folder: Path, target: BinaryIO, *, all_files: bool = False) -> int:
    """Zip every visible file of `folder` into `target`, with `all_files` every file; return the number of files.

    Raises `InvalidRequest` for a linked folder if it has to be complete.
    """
    count = 0
    with zipfile.ZipFile(target, "w", allowZip64=True, strict_timestamps=False) as archive:
        for root, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if all_files or not name.startswith("."))
            if links := [name for name in folders if all_files and Path(root, name).is_symlink()]:
                raise InvalidRequest(f"{Path(root, links[0])} is a link to a folder; only plain files are uploaded.")
            for name in sorted(name for name in names if all_files or not name.startswith(".")):
                file = Path(root, name)
                if not file.is_file():
                    continue
                method = zipfile.ZIP_STORED if file.suffix.lower() in COMPRESSED else zipfile.ZIP_DEFLATED
                archive.write(file, file.relative_to(folder), compress_type=method, compresslevel=1)
                count += 1
    return count
