"""Zips as the standard library writes them, read by our own table of contents."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nightshift.errors import NightshiftError
from shared.datasets.ingest.source_files import open_files
from shared.datasets.ingest.zip_directory import ZipDirectory
from tests.support.paths import ROOT

NAMES = ("train/cats/1.png", "train/hunde/ä.png", "train/кот/🐈.png", "b.txt", "a.txt")


def written(path: Path, names: tuple[str, ...] = NAMES, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("train")
        for name in names:
            archive.writestr(name, name.encode() * 100)
        archive.comment = b"PK\x01\x02 of the comment" * 9
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("limit", [10, zipfile.ZIP64_LIMIT])
def test_what_was_packed_is_read(tmp_path: Path, method: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)  # with the low one every number stands in the zip64 extra
    path = written(tmp_path / "set.zip", method=method)
    with open_files(path) as files:
        assert files.names == sorted(NAMES)
        for name in NAMES:
            with files.open(name) as file:
                assert file.read() == name.encode() * 100
            assert files.size(name) == len(name.encode() * 100)


#: More than two bytes can count.
MANY = tuple(f"train/{number % 10}/{number}.txt" for number in range(70_000))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("many") / "set.zip", MANY, zipfile.ZIP_STORED)


def test_many_files(many: Path) -> None:
    """The table of contents is read in several parts."""
    directory = ZipDirectory(many, "set.zip")
    assert directory.names == sorted(MANY)
    with directory.open(MANY[69_999]) as file:
        assert file.read() == MANY[69_999].encode() * 100


def test_members_on_top_of_each_other_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "set.zip", ("1.txt", "2.txt"))
    with zipfile.ZipFile(path) as archive:
        first, second = (archive.getinfo(name).header_offset for name in ("1.txt", "2.txt"))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"2.txt"))
    assert struct.unpack_from("<L", data, entry + 42) == (second,)
    struct.pack_into("<L", data, entry + 42, first)
    path.write_bytes(data)
    with pytest.raises(NightshiftError, match=re.escape("2.txt: overlaps another file")):
        ZipDirectory(path, "set.zip")


def test_a_member_that_is_called_otherwise_where_it_lies(tmp_path: Path) -> None:
    path = written(tmp_path / "set.zip", ("1.txt",))
    path.write_bytes(path.read_bytes().replace(b"1.txt", b"2.txt", 1))
    with open_files(path) as files, pytest.raises(NightshiftError, match=re.escape("1.txt: is cut off or damaged")):
        files.open("1.txt")


@pytest.mark.parametrize("place", ["begin", "middle", "end"])
def test_a_damaged_table_of_contents(tmp_path: Path, place: str) -> None:
    path = written(tmp_path / "set.zip")
    data = bytearray(path.read_bytes())
    begin = struct.unpack_from("<L", data, data.rindex(b"PK\x05\x06") + 16)[0]
    at = {"begin": begin, "middle": begin + 60, "end": data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x05\x06"))}[place]
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(NightshiftError):
        ZipDirectory(path, "set.zip")


PROGRAM = """
import re, sys
from pathlib import Path
from shared.datasets.ingest.zip_directory import ZipDirectory
def held(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1000
ZipDirectory(Path(sys.argv[1]), "few")
few = held()
found = ZipDirectory(Path(sys.argv[2]), "many")
print((held() - few) // len(found.names))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_file_takes_little_memory(tmp_path: Path, many: Path) -> None:
    few = written(tmp_path / "few.zip")
    command = [sys.executable, "-c", PROGRAM, str(few), str(many)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    print(f"{done.stdout.strip()} bytes a file")
    assert int(done.stdout) < 400
