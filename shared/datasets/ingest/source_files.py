"""The source files of a data set: a folder, a zip or a single file behind one interface.

Zips are never extracted: members are read as streams, and their unpacked size is limited while reading.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, cast

from shared.datasets.errors import bad_file, broken_file
from shared.datasets.ingest.zip_directory import MAX_RATIO, RATIO_FROM, ZipDirectory

#: First bytes of a Parquet file.
PARQUET = b"PAR1"
_JUNK = {".ds_store", "thumbs.db", "desktop.ini", "__macosx"}


class Files(Protocol):
    """Files by relative path with `/`, sorted. `label` names the folder, zip or file in messages."""

    label: str
    names: list[str]

    def open(self, name: str) -> BinaryIO:
        """Open the file without unpacking `.gz`. Reading raises MalformedRequest or InvalidRequest."""
        ...

    def size(self, name: str) -> int:
        """Return the declared size of the file (bytes)."""
        ...


class FolderFiles:
    """All files below a folder, except those that desktops create and, unless `all_files`, hidden ones."""

    def __init__(self, folder: Path, *, all_files: bool = False) -> None:
        self.label, self._folder = folder.name, folder
        self.names = sorted(_walk(folder, "", set(), all_files))

    def open(self, name: str) -> BinaryIO:
        return (self._folder / name).open("rb")

    def size(self, name: str) -> int:
        return (self._folder / name).stat().st_size


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]], all_files: bool) -> Iterator[str]:
    """Yield the names below a folder; each folder is visited once even if links form a cycle.

    With `all_files`, everything but plain files is refused, so that nothing is lost in silence.
    """
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_junk(entry.name, all_files):
                continue
            if all_files and not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
                raise bad_file(prefix + entry.name, "is a link or a device; only plain files and folders are stored")
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", seen, all_files)
            elif entry.is_file():
                yield prefix + entry.name


def _is_junk(name: str, all_files: bool = False) -> bool:
    return name.lower() in _JUNK or (name.startswith(".") and not all_files)


class SingleFile:
    """One file."""

    def __init__(self, path: Path, label: str | None = None) -> None:
        self.label, self._path = label or path.name, path
        self.names = [self.label]

    def open(self, name: str) -> BinaryIO:
        return self._path.open("rb")

    def size(self, name: str) -> int:
        return self._path.stat().st_size


class ZipFiles:
    """The members of a zip, whose central directory is checked before any member is read."""

    def __init__(self, path: Path, label: str | None = None, *, all_files: bool = False) -> None:
        self.label = label or path.name
        self._directory = ZipDirectory(path, self.label)
        names = self._directory.names
        self.names = [name for name in names if not any(_is_junk(part, all_files) for part in name.split("/"))]

    def open(self, name: str) -> BinaryIO:
        try:
            stream = self._directory.open(name)
        except (zipfile.BadZipFile, ValueError, struct.error, OSError) as error:
            raise broken_file(name, f"is cut off or damaged ({error})") from error
        except (NotImplementedError, RuntimeError) as error:
            raise bad_file(name, f"cannot be unpacked ({error}); pack it with deflate") from error
        return cast(BinaryIO, io.BufferedReader(_Unpacking(stream, name, self._directory.packed(name)), 1 << 16))

    def size(self, name: str) -> int:
        return self._directory.size(name)


@contextmanager
def open_files(path: Path, label: str | None = None, *, all_files: bool = False) -> Iterator[Files]:
    """Open a folder, a zip (by content) or a single file. `label`: the user's name for it, in messages.

    `all_files`: with hidden ones; and a zip that is named otherwise, as .npz, .docx or .whl, is a single file.
    """
    if path.is_dir():
        yield FolderFiles(path, all_files=all_files)
    elif _begins(path, b"PK\x03\x04", b"PK\x05\x06") and not (all_files and _is_named_otherwise(label or path.name)):
        yield ZipFiles(path, label, all_files=all_files)
    else:
        yield SingleFile(path, label)


def open_unpacked(files: Files, name: str) -> BinaryIO:
    """Open a file like `files.open`, and unpack it if it is `.gz`."""
    stream = files.open(name)
    if not name.lower().endswith(".gz"):
        return stream
    unpacked = gzip.GzipFile(fileobj=stream)
    return cast(
        BinaryIO, io.BufferedReader(_Unpacking(cast(BinaryIO, unpacked), name, files.size(name), stream), 1 << 16)
    )


class _Unpacking(io.RawIOBase):
    """Unpacking stream that limits the compression ratio and raises damage as our errors."""

    def __init__(self, stream: object, name: str, packed: int, source: BinaryIO | None = None) -> None:
        self._stream, self._name, self._packed, self._source = cast(BinaryIO, stream), name, max(packed, 1), source
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer))
        except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, struct.error) as error:
            raise broken_file(self._name, f"is cut off or damaged ({error})") from error
        except (NotImplementedError, RuntimeError, OSError, ValueError) as error:
            raise bad_file(self._name, f"cannot be unpacked ({error})") from error
        self._unpacked += len(data)
        if self._unpacked > RATIO_FROM and self._unpacked > MAX_RATIO * self._packed:
            raise bad_file(
                self._name, f"unpacks to more than {MAX_RATIO} times its size; upload it unpacked or in parts"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        if self._source is not None:
            self._source.close()
        super().close()


def is_parquet(files: Files, name: str) -> bool:
    """Return whether a file begins like Parquet."""
    with files.open(name) as stream:
        return stream.read(len(PARQUET)) == PARQUET


def _is_named_otherwise(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix not in ("", ".zip")


def _begins(path: Path, *magics: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(magics)
