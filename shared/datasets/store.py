"""One data set version on disk: `<storage>/datasets/<sha256>/`, complete and immutable.

meta.json                     {format, kind, classes, tags, image, splits, split, size_bytes}
images   <split>_x.npy        uint8 [n, height, width, channels], as they were given (0 … 255)
         <split>_y.npy        int64 [n], index into `classes`
         <split>_ids.npy      bytes [n], the file each image came from (folders and zips of images only)
text     <split>.txt          UTF-8, documents back to back
         <split>_docs.npy     int64 [documents + 1], byte offsets of the documents
         <split>_y.npy        only where documents have a label
         <split>_tags.npy     uint16 [tokens], index into `tags`; only where tokens have a tag: they are separated by
                              single spaces then, and a document is a sentence, which ends with a newline
         tokens-<hash>/       token streams, made on demand (shared.datasets.ingest.tokens)
files    files/               the user's files, read-only
tables   table.parquet        one row group after the other, as `ingest.build_table` divides them

A version is built in `.tmp-<id>/` in the same folder, fsynced, hashed, and renamed to its hash: a reader sees all of it
or nothing, and equal content, in whatever archive it came, is stored once. The builder holds a lock on
`.tmp-<id>.lock`; a folder whose lock is free was left by a dead process and is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nightshift.names import FILES
from shared.folders import remove_folder
from shared.fsync import fsync_folder
from shared.lazy_numpy import np

if TYPE_CHECKING:
    import numpy.typing as npt

FORMAT = 1
META = "meta.json"
SPLITS = ("train", "valid", "test")
#: Where a data set of kind `files` has the user's files, and one of kind `table` its rows.
FILES_FOLDER, TABLE_FILE = "files", "table.parquet"
#: Minimum age (seconds) of a lock file before it counts as abandoned: it is created before it is locked. Too low: the
#: folder of a live process is removed.
_YOUNG = 60.0
#: Bytes copied at a time.
_COPIED = 4_000_000

Array: TypeAlias = "npt.NDArray[Any]"


# -- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenDataset:
    """A version opened for reading. Arrays are memory-mapped and read-only; opening reads only `meta.json`."""

    folder: Path
    meta: dict[str, Any]

    @property
    def kind(self) -> str:
        """Return its kind, one of `nightshift.names.DATA_KINDS`."""
        return str(self.meta["kind"])

    @property
    def user_folder(self) -> Path:
        """Return the folder that a program reads: of kind `files` it has the user's files and nothing else."""
        return self.folder / FILES_FOLDER if self.kind == FILES else self.folder

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes in the order of their labels; empty without labels."""
        return list(self.meta["classes"])

    @property
    def tags(self) -> list[str]:
        """Return the names of the tags of tokens in the order of their numbers; empty where tokens have none."""
        return list(self.meta.get("tags", []))

    @property
    def image(self) -> tuple[int, int, int]:
        """Return (height, width, channels) of every image."""
        height, width, channels = self.meta["image"]
        return height, width, channels

    @cached_property
    def splits(self) -> list[str]:
        """Return its splits, of `train`, `valid`, `test`. Images and text always have `train` and `test`."""
        return [name for name in SPLITS if name in self.meta["splits"]]

    def count(self, split: str) -> int:
        """Return the number of images or documents of a split."""
        return int(self.meta["splits"][split]["count"])

    def x(self, split: str) -> npt.NDArray[np.uint8]:
        """Return the images, uint8 [n, height, width, channels]."""
        return self._array(f"{split}_x.npy")

    def y(self, split: str) -> npt.NDArray[np.int64]:
        """Return the labels, int64 [n]. Raises FileNotFoundError for text without labels."""
        return self._array(f"{split}_y.npy")

    def token_tags(self, split: str) -> npt.NDArray[np.uint16]:
        """Return the number of each token's tag, uint16 [tokens]. Raises FileNotFoundError where tokens have none."""
        return self._array(f"{split}_tags.npy")

    def ids(self, split: str) -> npt.NDArray[np.bytes_] | None:
        """Return the source file of each row (UTF-8), or None if rows are identified by their number."""
        return self._array(f"{split}_ids.npy") if (self.folder / f"{split}_ids.npy").exists() else None

    def text_path(self, split: str) -> Path:
        """Return the path of a split's text."""
        return self.folder / f"{split}.txt"

    def document_bounds(self, split: str) -> npt.NDArray[np.int64]:
        """Return the byte offsets of the documents in `text_path`, int64 [documents + 1]."""
        return self._array(f"{split}_docs.npy")

    def documents(self, split: str) -> Iterator[str]:
        """Yield the documents of a text in order, one in memory at a time."""
        bounds = self.document_bounds(split)
        with self.text_path(split).open("rb") as file:
            for length in map(int, np.diff(bounds)):
                yield file.read(length).decode()

    def _array(self, name: str) -> Array:
        return load_array(self.folder / name)


def load_array(path: Path) -> Array:
    """Map an array into memory, read-only; an empty one, which mmap does not accept, is read."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    array: Array = np.load(path, mmap_mode=None if 0 in shape else "r", allow_pickle=False)
    return array


def open_dataset(folder: Path) -> OpenDataset:
    """Open the folder of one version. Raises FileNotFoundError if it does not exist."""
    return OpenDataset(folder, json.loads((folder / META).read_text()))


# -- writing --------------------------------------------------------------------------------------


class NpyWriter:
    """Append rows to a `.npy` file without holding them; `close` rewrites the header in place."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self._dtype, self._row_shape, self.rows = np.dtype(dtype), row_shape, 0
        self._file = path.open("wb+")
        self._write_header()

    def append(self, rows: Array) -> None:
        """Write rows. Raises ValueError for another shape."""
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"rows of {self._row_shape} expected, got {rows.shape[1:]}")
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def append_file(self, path: Path) -> None:
        """Copy the rows of another `.npy` file as bytes. Raises ValueError for another shape or dtype."""
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if shape[1:] != self._row_shape or dtype != self._dtype or (fortran and len(shape) > 1):
                raise ValueError(
                    f"rows of {self._row_shape} {self._dtype} expected, {path.name} has {shape[1:]} {dtype}"
                )
            shutil.copyfileobj(file, self._file, _COPIED)
        self.rows += shape[0]

    def close(self) -> None:
        """Write the header with the number of rows, and close the file."""
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, {**header, "shape": (self.rows, *self._row_shape)})


#: Returns the line of the user's file on which a row of a table (from 0) begins; None where it is not known.
LineOf = Callable[[int], int | None]


def no_line(row: int) -> None:
    """Know no lines, as of a file that has none."""


@dataclass(frozen=True)
class Stored:
    """A version that is on disk."""

    sha256: str
    folder: Path
    meta: dict[str, Any]
    line_of: LineOf = field(default=no_line, kw_only=True, compare=False)

    def is_there(self) -> bool:
        """Return whether the folder still exists: garbage collection may have removed it before its row was written."""
        return (self.folder / META).exists()


@contextmanager
def staging(datasets_root: Path) -> Iterator[Path]:
    """Create a locked folder to build a version in; remove what is left of it on exit."""
    datasets_root.mkdir(parents=True, exist_ok=True)
    folder = datasets_root / f".tmp-{uuid.uuid4().hex}"
    lock_path = _lock_path(folder)
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            folder.mkdir()
            yield folder
        finally:
            remove_folder(folder)
            lock_path.unlink(missing_ok=True)


def publish(folder: Path, meta: dict[str, Any]) -> Stored:
    """Rename a built folder to its hash. Order: files, `meta.json`, fsync of all, hash, rename, fsync of the parent."""
    size = sum(file.stat().st_size for file in content(folder).values())
    meta = {"format": FORMAT, **meta, "size_bytes": size}
    (folder / META).write_text(json.dumps(meta, sort_keys=True, ensure_ascii=False))
    sha256 = hash_of(folder, sync=True)
    target = folder.parent / sha256
    if (target / META).exists():
        os.utime(target)  # restarts the grace period of garbage collection (see `gc`): its row is not written yet
    else:
        rename_into_place(folder, target)
    return Stored(sha256, target, meta)


def rename_into_place(folder: Path, target: Path) -> None:
    """Rename a finished folder; if another process has done so first, keep its (equal) folder."""
    fsync_folder(folder)
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    fsync_folder(target.parent)


def sweep(datasets_root: Path) -> int:
    """Remove the folders that dead builders left; return how many."""
    swept = 0
    # Not `Path.glob`, which fails if another builder renames a folder meanwhile.
    for pattern in (".tmp-*.lock", "*/.tmp-*.lock"):
        swept += sum(_swept(datasets_root / found) for found in glob(pattern, root_dir=datasets_root))
    return swept


def _swept(lock_path: Path) -> bool:
    with suppress(FileNotFoundError, BlockingIOError), lock_path.open("r+") as lock:
        if time.time() - os.fstat(lock.fileno()).st_mtime >= _YOUNG:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError while its builder lives
            remove_folder(lock_path.with_suffix(""))
            lock_path.unlink(missing_ok=True)
            return True
    return False


def _lock_path(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def hash_of(folder: Path, *, sync: bool = False) -> str:
    """Return the name of a version's folder: SHA-256 over the sorted lines `<sha256 of file>  <name>`."""
    digest = hashlib.sha256()
    for name, path in sorted(content(folder).items()):
        with path.open("rb") as file:
            if sync:
                os.fsync(file.fileno())
            digest.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n".encode())
    return digest.hexdigest()


def content(folder: Path) -> dict[str, Path]:
    """Return the files of a version by their name below its folder, without folders of derived files."""
    found = {path.name: path for path in folder.iterdir() if path.is_file()}
    below = (folder / FILES_FOLDER).rglob("*")
    return found | {path.relative_to(folder).as_posix(): path for path in below if path.is_file()}


def is_content(name: str) -> bool:
    """Return whether a file of this name below a version's folder belongs to the version and is not derived."""
    return "/" not in name or name.startswith(f"{FILES_FOLDER}/")


def seal(folder: Path) -> None:
    """Sync the folders with the user's files, and let nothing write to them by accident. Other kinds have none."""
    for root, _, names in os.walk(folder / FILES_FOLDER, topdown=False):
        for name in names:
            os.chmod(os.path.join(root, name), 0o444)
        fsync_folder(Path(root))
        os.chmod(root, 0o555)
