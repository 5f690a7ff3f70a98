"""The files of a data set as its readers see them: a folder, a zip or a single file, all opened the same way.

Nothing is ever extracted: members are read as streams, and what they unpack to is counted while it is read.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, cast

from shared.datasets.complaints import bad_file, broken_file, printable
from shared.errors import InvalidRequest

#: Unpacked bytes per packed byte above which a file counts as a bomb, once it has unpacked to more than `_RATIO_FROM`
#: (a short file of spaces is no bomb). Lower: honest drawings are refused. Higher: a small upload fills the disk.
MAX_RATIO = 100
_RATIO_FROM = 1_000_000
#: Largest table of contents of a zip (bytes): some 500,000 files. Python needs ten times as much memory to read it.
MAX_ZIP_DIRECTORY = 50_000_000

_JUNK = {".ds_store", "thumbs.db", "desktop.ini", "__macosx"}


class Files(Protocol):
    """Files by relative path with `/`, sorted. `label` names the whole in messages."""

    label: str
    names: list[str]

    def open(self, name: str) -> BinaryIO:
        """A stream of the file as it is stored. Raises MalformedRequest or InvalidRequest while it is read."""
        ...

    def size(self, name: str) -> int:
        """Bytes the file says it has."""
        ...


class FolderFiles:
    """All files below a folder; hidden ones and desktop litter are left out."""

    def __init__(self, folder: Path) -> None:
        self.label, self._folder = folder.name, folder
        self.names = sorted(_walk(folder, "", set()))

    def open(self, name: str) -> BinaryIO:
        return (self._folder / name).open("rb")

    def size(self, name: str) -> int:
        return (self._folder / name).stat().st_size


def _walk(folder: Path, prefix: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Names below a folder; a folder that links lead to again is visited once."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_junk(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", seen)
            elif entry.is_file():
                yield prefix + entry.name


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


class SingleFile:
    def __init__(self, path: Path, label: str | None = None) -> None:
        self.label, self._path = label or path.name, path
        self.names = [self.label]

    def open(self, name: str) -> BinaryIO:
        return self._path.open("rb")

    def size(self, name: str) -> int:
        return self._path.stat().st_size


class ZipFiles:
    """The members of a zip that was checked before anything is read. Use as a context manager."""

    def __init__(self, path: Path, label: str | None = None) -> None:
        self.label = label or path.name
        _check_directory(path, self.label)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, struct.error, ValueError, EOFError, NotImplementedError, OSError) as error:
            raise broken_file(self.label, f"is cut off or no zip ({error})") from error
        try:
            self._members = _checked_members(self._zip.infolist())
        except BaseException:
            self._zip.close()
            raise
        self.names = sorted(self._members)

    def open(self, name: str) -> BinaryIO:
        member = self._members[name]
        try:
            stream = self._zip.open(member)
        except (zipfile.BadZipFile, ValueError, struct.error, OSError) as error:
            raise broken_file(name, f"is cut off or damaged ({error})") from error
        except (NotImplementedError, RuntimeError) as error:
            raise bad_file(name, f"cannot be unpacked ({error}); pack it with deflate") from error
        return cast(BinaryIO, io.BufferedReader(_Unpacking(stream, name, member.compress_size), 1 << 16))

    def size(self, name: str) -> int:
        return self._members[name].file_size

    def close(self) -> None:
        self._zip.close()


@contextmanager
def open_files(path: Path, label: str | None = None) -> Iterator[Files]:
    """A folder, a zip (by content) or any other single file. `label` stands for the name the user gave it."""
    if path.is_dir():
        yield FolderFiles(path)
    elif _begins(path, b"PK\x03\x04", b"PK\x05\x06"):
        files = ZipFiles(path, label)
        try:
            yield files
        finally:
            files.close()
    else:
        yield SingleFile(path, label)


def open_unpacked(files: Files, name: str) -> BinaryIO:
    """Like `files.open`, and a `.gz` unpacked."""
    stream = files.open(name)
    if not name.lower().endswith(".gz"):
        return stream
    unpacked = gzip.GzipFile(fileobj=stream)
    return cast(
        BinaryIO, io.BufferedReader(_Unpacking(cast(BinaryIO, unpacked), name, files.size(name), stream), 1 << 16)
    )


class _Unpacking(io.RawIOBase):
    """Counts what a packed stream unpacks to, and turns the ways it can be broken into our errors."""

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
        if self._unpacked > _RATIO_FROM and self._unpacked > MAX_RATIO * self._packed:
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


# -- what a zip may hold --------------------------------------------------------------------------


def _checked_members(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        problem = _problem(info)
        key = unicodedata.normalize("NFC", info.filename)
        if problem is None and key in seen:
            problem = "is in the zip twice"
        if problem:
            raise bad_file(info.orig_filename, problem)
        seen.add(key)
        if not info.is_dir() and not any(_is_junk(part) for part in info.filename.split("/")):
            members[info.filename] = info
    return members


def _problem(info: zipfile.ZipInfo) -> str | None:
    # orig_filename: as it is stored; zipfile cuts `filename` at a NUL.
    name = info.orig_filename
    if name != info.filename or "\\" in name or not name:
        return "has a name with a backslash, a NUL or nothing in it; use '/' between folders"
    if name.startswith("/") or ".." in PurePosixPath(name).parts or (len(name) > 1 and name[1] == ":"):
        return "points outside the zip; use names relative to it"
    if any(0xD800 <= ord(c) <= 0xDFFF for c in name) or any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "has control characters in its name"
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device; a zip may hold plain files and folders only"
    if info.flag_bits & 0x1:
        return "is encrypted; remove the password"
    if info.file_size > _RATIO_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"unpacks to more than {MAX_RATIO} times its size; upload it unpacked or in parts"
    return None


def _check_directory(path: Path, label: str) -> None:
    """Refuse a table of contents that would fill the memory while it is read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 65_557))  # the longest comment plus the end record
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise broken_file(label, "is cut off: the zip has no table of contents")
    (directory,) = struct.unpack_from("<L", tail, at + 12)
    zip64 = tail.rfind(b"PK\x06\x06", 0, at)
    if directory == 0xFFFFFFFF and zip64 >= 0 and len(tail) >= zip64 + 56:
        (directory,) = struct.unpack_from("<Q", tail, zip64 + 40)
    if directory > MAX_ZIP_DIRECTORY:
        raise InvalidRequest.field(("file", printable(label)), "holds too many files for a zip; register a folder")


def _begins(path: Path, *magics: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(magics)
