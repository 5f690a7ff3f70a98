"""Zips of a million files: the table of contents is read once, entry by entry, and kept in some 150 bytes a file.

`zipfile` keeps an object of half a kilobyte for each; of it we use what an entry means and how a member is unpacked.
"""

from __future__ import annotations

import stat
import struct
import unicodedata
import zipfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np

from nightshift.errors import InvalidRequest
from shared.datasets.errors import bad_file, broken_file, printable

#: Unpacked bytes per packed byte above which a file counts as a bomb, once it has unpacked to more than `RATIO_FROM`
#: (a short file of spaces is no bomb). Lower: honest drawings are refused. Higher: a small upload fills the disk.
MAX_RATIO = 100
RATIO_FROM = 1_000_000
#: Largest table of contents of a zip (bytes): some three million files, which take about twice that in memory.
MAX_DIRECTORY = 300_000_000

_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
#: Flags. The name is UTF-8, else code page 437.
_ENCRYPTED, _PATCH, _UTF8 = 0x1 | 0x40, 0x20, 0x800
_ELSEWHERE = 0xFFFFFFFF  # the number stands in the zip64 extra
_READ_BYTES = 1 << 20
#: Longest comment, and the end record before it.
_TAIL_BYTES = 65_557
_ENTRY_HEAD = struct.Struct("<4s6H3L5H2L")
_LOCAL_BYTES = 30


@dataclass(frozen=True)
class _Place:
    """Where the table of contents is (bytes)."""

    start: int
    size: int


class ZipDirectory:
    """Its plain files: no links, no names that lead out of it, none twice, none on top of another."""

    def __init__(self, path: Path, label: str) -> None:
        self._path, names = path, list[str]()
        columns = {name: array("Q") for name in ("offset", "packed", "unpacked", "crc", "method")}
        seen: set[str] = set()
        with path.open("rb") as file:
            for info in _entries(file, _find(file, label), label):
                _check(info, seen)
                if not info.is_dir():
                    names.append(info.filename)
                    of = (info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type)
                    for column, value in zip(columns.values(), of, strict=True):
                        column.append(value)
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        self.names = [names[row] for row in order]
        self._columns = {name: np.frombuffer(column, np.uint64)[order] for name, column in columns.items()}
        self._refuse_overlaps()

    def open(self, name: str) -> BinaryIO:
        """The member unpacked, its checksum compared at the end. Raises what `zipfile` raises of one that is
        damaged."""
        info = self._info(name)
        file = self._path.open("rb")
        try:
            file.seek(info.header_offset)
            head = file.read(_LOCAL_BYTES)
            if len(head) < _LOCAL_BYTES or not head.startswith(_LOCAL):
                raise zipfile.BadZipFile("no file begins where the table of contents says")
            flags, (name_bytes, extra_bytes) = struct.unpack_from("<H", head, 6)[0], struct.unpack_from("<2H", head, 26)
            if _decoded(file.read(name_bytes), flags) != info.orig_filename:
                raise zipfile.BadZipFile("has another name than in the table of contents")
            file.seek(extra_bytes, 1)
            return cast(BinaryIO, zipfile.ZipExtFile(file, "r", info, None, True))
        except BaseException:
            file.close()
            raise

    def size(self, name: str) -> int:
        """Bytes it says to unpack to."""
        return int(self._columns["unpacked"][self._row(name)])

    def packed(self, name: str) -> int:
        return int(self._columns["packed"][self._row(name)])

    def _row(self, name: str) -> int:
        row = bisect_left(self.names, name)
        if row == len(self.names) or self.names[row] != name:
            raise KeyError(name)
        return row

    def _info(self, name: str) -> zipfile.ZipInfo:
        row, info = self._row(name), zipfile.ZipInfo(name)
        of = {column: int(values[row]) for column, values in self._columns.items()}
        info.header_offset, info.compress_size, info.file_size = of["offset"], of["packed"], of["unpacked"]
        info.CRC, info.compress_type = of["crc"], of["method"]
        return info

    def _refuse_overlaps(self) -> None:
        """Files that share their bytes unpack to far more than the zip's size: a bomb that no single ratio shows."""
        offsets, packed = self._columns["offset"], self._columns["packed"]
        order = np.argsort(offsets, kind="stable")
        ends = offsets[order] + packed[order] + np.uint64(_LOCAL_BYTES)
        over = np.flatnonzero(ends[:-1] > offsets[order][1:])
        if len(over):
            raise bad_file(self.names[order[over[0] + 1]], "lies on top of another file of the zip")


def _find(file: BinaryIO, label: str) -> _Place:
    length = file.seek(0, 2)
    begin = file.seek(max(0, length - _TAIL_BYTES))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise broken_file(label, "is cut off: the zip has no table of contents")
    size, offset = struct.unpack_from("<2L", tail, at + 12)
    zip64 = tail.rfind(_END64, 0, at)
    if zip64 >= 0 and at >= zip64 + 76 and tail.startswith(_LOCATOR64, at - 20):
        at, (size, offset) = zip64, struct.unpack_from("<2Q", tail, zip64 + 40)
    if size > MAX_DIRECTORY:
        raise InvalidRequest.field(("file", printable(label)), "holds too many files for a zip; register it in parts")
    if begin + at - size != offset:
        raise broken_file(label, "is cut off or no zip (its table of contents is not where it says)")
    return _Place(offset, size)


def _entries(file: BinaryIO, place: _Place, label: str) -> Iterator[zipfile.ZipInfo]:
    file.seek(place.start)
    data, left, at = b"", place.size, 0
    while left or at < len(data):
        if len(data) - at < 3 * 65_535 + _ENTRY_HEAD.size and left:  # the longest entry may not be whole
            more = file.read(min(left, _READ_BYTES))
            if not more:
                raise broken_file(label, "is cut off within its table of contents")
            data, at, left = data[at:] + more, 0, left - len(more)
            continue
        info, at = _entry(data, at, label)
        yield info


def _entry(data: bytes, at: int, label: str) -> tuple[zipfile.ZipInfo, int]:
    """One entry, and where the next begins."""
    if len(data) < at + _ENTRY_HEAD.size or not data.startswith(_ENTRY, at):
        raise broken_file(label, "is cut off or no zip (its table of contents is damaged)")
    head = _ENTRY_HEAD.unpack_from(data, at)
    flags, method, crc, packed, unpacked = head[3], head[4], head[7], head[8], head[9]
    name_bytes, extra_bytes, comment_bytes, attributes, offset = *head[10:13], head[15], head[16]
    name_at = at + _ENTRY_HEAD.size
    extra_at = name_at + name_bytes
    if len(data) < extra_at + extra_bytes + comment_bytes:
        raise broken_file(label, "is cut off within its table of contents")
    info = zipfile.ZipInfo(_decoded(data[name_at:extra_at], flags))
    info.flag_bits, info.compress_type, info.CRC, info.external_attr = flags, method, crc, attributes
    given = [unpacked, packed, offset]
    if _ELSEWHERE in given:
        given = _from_extra(data[extra_at : extra_at + extra_bytes], given, info.orig_filename)
    info.file_size, info.compress_size, info.header_offset = given
    return info, extra_at + extra_bytes + comment_bytes


def _from_extra(extra: bytes, given: list[int], name: str) -> list[int]:
    """The numbers that did not fit into four bytes, in the order of the zip64 extra: unpacked, packed, offset."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            found = [next(wide, None) if number == _ELSEWHERE else number for number in given]
            if None not in found:
                return [int(number or 0) for number in found]
        at += 4 + length
    raise broken_file(name, "is damaged: the zip does not say how large it is")


def _decoded(name: bytes, flags: int) -> str:
    try:
        return name.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise bad_file(printable(repr(name)), "has a name that is not UTF-8, though the zip says so") from error


# -- what a zip may hold --------------------------------------------------------------------------


def _check(info: zipfile.ZipInfo, seen: set[str]) -> None:
    problem = _problem(info)
    key = unicodedata.normalize("NFC", info.filename)
    if problem is None and key in seen:
        problem = "is in the zip twice"
    if problem:
        raise bad_file(info.orig_filename, problem)
    seen.add(key)


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
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted; remove the password"
    if info.flag_bits & _PATCH:
        return "is a patch of another file; pack it with deflate"
    if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"unpacks to more than {MAX_RATIO} times its size; upload it unpacked or in parts"
    return None
