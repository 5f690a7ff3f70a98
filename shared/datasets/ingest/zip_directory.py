"""Zips of a million files: the central directory is read once, entry by entry, and kept in some 150 bytes per file.

`zipfile` keeps an object of half a kilobyte per file; only its entry type and its unpacking are used here.
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

from nightshift.errors import InvalidRequest
from shared.datasets.errors import bad_file, broken_file, printable
from shared.lazy_numpy import np

#: Highest compression ratio, against zip bombs; applies above `RATIO_FROM` unpacked bytes, since short files of spaces
#: are harmless. Too low: legitimate drawings are refused. Too high: a small upload fills the disk.
MAX_RATIO = 100
RATIO_FROM = 1_000_000
#: Largest central directory of a zip (bytes): some three million files, which take about twice that in memory.
MAX_DIRECTORY = 300_000_000

_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
#: Flags. The name is UTF-8, else code page 437.
_ENCRYPTED, _PATCH, _UTF8 = 0x1 | 0x40, 0x20, 0x800
_ELSEWHERE = 0xFFFFFFFF  # the number is in the zip64 extra field
_READ_BYTES = 1 << 20
#: Size of the end record with the longest comment.
_TAIL_BYTES = 65_557
_ENTRY_HEAD = struct.Struct("<4s6H3L5H2L")
_LOCAL_BYTES = 30


@dataclass(frozen=True)
class _Place:
    """Offset and size of the central directory (bytes)."""

    start: int
    size: int


class ZipDirectory:
    """The plain files of a zip; refuses links, names outside it, duplicates and overlapping members."""

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
        """Open a member unpacked; its checksum is verified at the end. Raises zipfile's errors for damage."""
        info = self._info(name)
        file = self._path.open("rb")
        try:
            file.seek(info.header_offset)
            head = file.read(_LOCAL_BYTES)
            if len(head) < _LOCAL_BYTES or not head.startswith(_LOCAL):
                raise zipfile.BadZipFile("no file begins where the central directory says")
            flags, (name_bytes, extra_bytes) = struct.unpack_from("<H", head, 6)[0], struct.unpack_from("<2H", head, 26)
            if _decoded(file.read(name_bytes), flags) != info.orig_filename:
                raise zipfile.BadZipFile("its name differs from the one in the central directory")
            file.seek(extra_bytes, 1)
            return cast(BinaryIO, zipfile.ZipExtFile(file, "r", info, None, True))
        except BaseException:
            file.close()
            raise

    def size(self, name: str) -> int:
        """Return the declared unpacked size of a member (bytes)."""
        return int(self._columns["unpacked"][self._row(name)])

    def packed(self, name: str) -> int:
        """Return the packed size of a member (bytes)."""
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
        """Raise InvalidRequest if members overlap: a zip bomb that the ratio of a single member does not show."""
        offsets, packed = self._columns["offset"], self._columns["packed"]
        order = np.argsort(offsets, kind="stable")
        ends = offsets[order] + packed[order] + np.uint64(_LOCAL_BYTES)
        over = np.flatnonzero(ends[:-1] > offsets[order][1:])
        if len(over):
            raise bad_file(self.names[order[over[0] + 1]], "overlaps another file in the zip")


def _find(file: BinaryIO, label: str) -> _Place:
    length = file.seek(0, 2)
    begin = file.seek(max(0, length - _TAIL_BYTES))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise broken_file(label, "is cut off: the zip has no central directory")
    size, offset = struct.unpack_from("<2L", tail, at + 12)
    zip64 = tail.rfind(_END64, 0, at)
    if zip64 >= 0 and at >= zip64 + 76 and tail.startswith(_LOCATOR64, at - 20):
        at, (size, offset) = zip64, struct.unpack_from("<2Q", tail, zip64 + 40)
    if size > MAX_DIRECTORY:
        raise InvalidRequest.field(
            ("file", printable(label)), f"has a central directory of {size:,} bytes (at most {MAX_DIRECTORY:,}); "
            "it holds too many files, register them in parts"
        )  # fmt: skip
    if begin + at - size != offset:
        raise broken_file(label, "is cut off or not a zip (its central directory is at the wrong offset)")
    return _Place(offset, size)


def _entries(file: BinaryIO, place: _Place, label: str) -> Iterator[zipfile.ZipInfo]:
    file.seek(place.start)
    data, left, at = b"", place.size, 0
    while left or at < len(data):
        if len(data) - at < 3 * 65_535 + _ENTRY_HEAD.size and left:  # the longest entry may be incomplete
            more = file.read(min(left, _READ_BYTES))
            if not more:
                raise broken_file(label, "is cut off within its central directory")
            data, at, left = data[at:] + more, 0, left - len(more)
            continue
        info, at = _entry(data, at, label)
        yield info


def _entry(data: bytes, at: int, label: str) -> tuple[zipfile.ZipInfo, int]:
    """Return one entry and the offset of the next."""
    if len(data) < at + _ENTRY_HEAD.size or not data.startswith(_ENTRY, at):
        raise broken_file(label, "is cut off or not a zip (its central directory is damaged)")
    head = _ENTRY_HEAD.unpack_from(data, at)
    flags, method, crc, packed, unpacked = head[3], head[4], head[7], head[8], head[9]
    name_bytes, extra_bytes, comment_bytes, attributes, offset = *head[10:13], head[15], head[16]
    name_at = at + _ENTRY_HEAD.size
    extra_at = name_at + name_bytes
    if len(data) < extra_at + extra_bytes + comment_bytes:
        raise broken_file(label, "is cut off within its central directory")
    info = zipfile.ZipInfo(_decoded(data[name_at:extra_at], flags))
    info.flag_bits, info.compress_type, info.CRC, info.external_attr = flags, method, crc, attributes
    given = [unpacked, packed, offset]
    if _ELSEWHERE in given:
        given = _from_extra(data[extra_at : extra_at + extra_bytes], given, info.orig_filename)
    info.file_size, info.compress_size, info.header_offset = given
    return info, extra_at + extra_bytes + comment_bytes


def _from_extra(extra: bytes, given: list[int], name: str) -> list[int]:
    """Fill in the numbers over four bytes from the zip64 extra field; order: unpacked, packed, offset."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            found = [next(wide, None) if number == _ELSEWHERE else number for number in given]
            if None not in found:
                return [int(number or 0) for number in found]
        at += 4 + length
    raise broken_file(name, "is damaged: its size is missing in the zip")


def _decoded(name: bytes, flags: int) -> str:
    try:
        return name.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise bad_file(printable(repr(name)), "has a name that is marked as UTF-8 but is not") from error


# -- what a zip may hold --------------------------------------------------------------------------


def _check(info: zipfile.ZipInfo, seen: set[str]) -> None:
    problem = _problem(info)
    key = unicodedata.normalize("NFC", info.filename)
    if problem is None and key in seen:
        problem = "occurs twice in the zip"
    if problem:
        raise bad_file(info.orig_filename, problem)
    seen.add(key)


def _problem(info: zipfile.ZipInfo) -> str | None:
    # `orig_filename` is the stored name; zipfile truncates `filename` at a NUL.
    name = info.orig_filename
    if name != info.filename or "\\" in name or not name:
        return "has an empty name, or a backslash or NUL in its name; use '/' between folders"
    if name.startswith("/") or ".." in PurePosixPath(name).parts or (len(name) > 1 and name[1] == ":"):
        return "points outside the zip; use relative names"
    if any(0xD800 <= ord(c) <= 0xDFFF for c in name) or any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "has control characters in its name"
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device; a zip may hold only plain files and folders"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted; remove the password"
    if info.flag_bits & _PATCH:
        return "is a patch of another file; pack it with deflate"
    if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"unpacks to more than {MAX_RATIO} times its size; upload it unpacked or in parts"
    return None
