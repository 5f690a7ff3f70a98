"""Bad files (GUARANTEES.md §5): each is refused with the right status, naming file and line, and nothing is kept."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine, func, select

from nightshift.errors import InvalidRequest, MalformedRequest, RequestError, TooLarge, UnsupportedMedia
from shared.datasets import formats, registry
from shared.datasets.ingest.source_files import open_files
from shared.datasets.models import Dataset
from shared.db.engine import read
from shared.settings import Settings
from tests.support.dataset_files import (
    class_folders,
    idx,
    idx_folder,
    labelled_images,
    npz,
    picture,
    zipped,
    zipped_folder,
)

Make = Callable[[Path], Path]

#: Two lines of JSON lines that are good.
GOOD = b'{"text": "good", "label": 0}\n{"text": "bad", "label": "1"}\n'


def file(name: str, data: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def by_class(**texts: bytes) -> Make:
    """A zip of two texts in each of two class folders, some of them replaced."""
    names = ("pos/1", "pos/2", "neg/1", "neg/2")

    def make(folder: Path) -> Path:
        return zipped(folder / "set.zip", {f"{name}.txt": texts.get(name, b"words\n") for name in names})

    return make


def entry(name: str, **facts: int) -> Make:
    """A zip whose only member has this name and these facts in its table of contents."""

    def make(folder: Path) -> Path:
        info = zipfile.ZipInfo("x")
        info.filename = name
        for fact, value in facts.items():
            setattr(info, fact, value)
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            archive.writestr(info, b"a picture")
        return folder / "set.zip"

    return make


def folder_with(name: str, data: bytes) -> Make:
    """Class folders that are fine but for one more file."""

    def make(folder: Path) -> Path:
        pets = class_folders(folder / "pets")
        target = pets / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return pets

    return make


def idx_with(name: str, data: bytes) -> Make:
    def make(folder: Path) -> Path:
        idx_folder(folder / "set", packed=False)
        (folder / "set" / name).write_bytes(data)
        return folder / "set"

    return make


def arrays(**arrays: np.ndarray) -> Make:
    return lambda folder: npz(folder / "set.npz", **arrays)


def one_hot(rows: dict[int, list[float]]) -> np.ndarray:
    """The labels as one-hot rows, some of them replaced."""
    found = np.eye(4)[LABELS]
    for row, values in rows.items():
        found[row] = values
    return found


def members(**members: bytes) -> Make:
    return lambda folder: zipped(folder / "set.npz", {f"{name}.npy": data for name, data in members.items()})


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def duplicate(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("cats/1.jpg", picture())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("cats/1.jpg", picture())
    return folder / "set.zip"


def encrypted(folder: Path) -> Path:
    path = entry("cats/1.jpg")(folder)
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the local header's flags
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and the table's
    path.write_bytes(data)
    return path


def lying_about_size(folder: Path) -> Path:
    """The table of contents says 1,000 bytes; the stream unpacks to 30 MB."""
    path = zipped(folder / "set.zip", {"text.txt": b"a" * 30_000_000})
    data = bytearray(path.read_bytes())
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", data, data.index(magic) + at, 1_000)
    path.write_bytes(data)
    return path


def wrong_offset(folder: Path) -> Path:
    """The table of contents points before the beginning of the file."""
    path = zipped(folder / "set.zip", {"text.txt": b"words " * 99})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x05\x06") + 16
    struct.pack_into("<L", data, at, struct.unpack_from("<L", data, at)[0] + 1_000)
    path.write_bytes(data)
    return path


def cut(make: Make, share: float = 0.5) -> Make:
    def make_cut(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return make_cut


def tar(name: str, mode: str) -> Make:
    def make(folder: Path) -> Path:
        with tarfile.open(folder / name, mode) as archive:  # type: ignore[call-overload]
            info = tarfile.TarInfo("cats/1.jpg")
            info.size = len(picture())
            archive.addfile(info, io.BytesIO(picture()))
        return folder / name

    return make


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises this size; there are no pixels."""
    data = bytearray(picture(format="PNG"))
    struct.pack_into(">II", data, 16, width, height)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


IMAGES, LABELS = labelled_images(40)
ROWS = "".join(f"text {n},{n % 2}\n" for n in range(10))

BAD: dict[str, tuple[Make, type[RequestError], str]] = {
    # zips
    "zip slip": (entry("../evil.jpg"), InvalidRequest, r"\.\./evil\.jpg: points outside"),
    "zip slip inside": (entry("cats/../../evil.jpg"), InvalidRequest, "points outside"),
    "zip absolute": (entry("/etc/passwd"), InvalidRequest, "points outside"),
    "zip drive": (entry("C:/evil.jpg"), InvalidRequest, "points outside"),
    "zip backslash": (entry("..\\evil.jpg"), InvalidRequest, "backslash"),
    "zip control character": (entry("cats/\n.jpg"), InvalidRequest, r"cats/\\u000a\.jpg: has control"),
    "zip symlink": (entry("cats/1.jpg", external_attr=(stat.S_IFLNK | 0o777) << 16), InvalidRequest, "is a link"),
    "zip device": (
        entry("cats/1.jpg", external_attr=(stat.S_IFCHR | 0o600) << 16),
        InvalidRequest, "is a link or a dev",
    ),
    "zip duplicate": (duplicate, InvalidRequest, r"cats/1\.jpg: occurs twice in the zip"),
    "zip encrypted": (encrypted, InvalidRequest, "is encrypted"),
    "zip bomb": (lambda f: zipped(f / "b.zip", {"a.txt": b"a" * 3_000_000}), InvalidRequest, "more than 100 times"),
    "zip lying about its size": (lying_about_size, RequestError, r"text\.txt: (is cut off or damaged|unpacks)"),
    "zip cut off": (cut(lambda f: zipped(f / "b.zip", {"a.txt": b"words " * 99})), MalformedRequest, "is cut off"),
    "zip with a wrong offset": (wrong_offset, MalformedRequest, r"set\.zip: is cut off or not a zip"),
    "zip empty": (lambda f: zipped(f / "b.zip", {}), InvalidRequest, "holds no files"),
    "gzip bomb": (file("a.txt.gz", gzip.compress(b"a" * 3_000_000)), InvalidRequest, "more than 100 times"),
    "gzip cut off": (cut(file("a.txt.gz", gzip.compress(np.random.default_rng(0).bytes(999).hex().encode()))),
        MalformedRequest, "cut off"),
    # kinds of files that are none of ours
    "tar": (tar("set.tar", "w"), UnsupportedMedia, "tar archive"),
    "tar.gz": (tar("set.tar.gz", "w:gz"), UnsupportedMedia, "tar archive"),
    "tar under another name": (tar("set.zip", "w"), UnsupportedMedia, "tar archive"),
    "packed tar under another name": (tar("set.gz", "w:gz"), UnsupportedMedia, "tar archive"),
    "pickle": (file("set.npz", pickle.dumps({"x": 1})), UnsupportedMedia, "pickle"),
    "hdf5": (file("set.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 99), UnsupportedMedia, "HDF5"),
    "single picture": (file("cat.jpg", picture()), UnsupportedMedia, "single picture"),
    "empty file": (file("a.txt", b""), InvalidRequest, r"a\.txt, line 1: is empty"),
    "blank file": (file("a.txt", b" \n \n"), InvalidRequest, "is empty"),
    # arrays
    "npy": (lambda f: (np.save(f / "x.npy", IMAGES), f / "x.npy")[1], InvalidRequest, "single array"),
    "npy of objects": (
        lambda f: (np.save(f / "x.npy", np.array([{}], object), allow_pickle=True), f / "x.npy")[1], InvalidRequest,
        "single array",
    ),
    "npz objects": (arrays(x=np.array([{}, []], object), y=LABELS[:2]), InvalidRequest,
        r"x\.npy: holds Python objects"),
    "npz object labels": (arrays(x=IMAGES, y=np.array(["a", 1] * 20, object)), InvalidRequest, "y.npy: holds Python"),
    "npz absurd shape": (
        members(x=npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999, 9, 9)}\n"), y=b""),
        InvalidRequest, "impossible shape",
    ),
    "npz negative shape": (
        members(x=npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 9, 9)}\n"), y=b""),
        InvalidRequest, "impossible",
    ),
    "npz code in header": (
        members(x=npy_header("__import__('os').getpid()"), y=b""),
        MalformedRequest, "not a .npy array",
    ),
    "npz huge header": (members(x=npy_header(" " * 60_000), y=b""), MalformedRequest, "not a .npy array"),
    "npz text": (arrays(x=np.array(["a"] * 40), y=LABELS), InvalidRequest, "has the shape"),
    "npz complex": (arrays(x=IMAGES.astype(complex), y=LABELS), InvalidRequest, "holds complex128"),
    "npz without labels": (arrays(x=IMAGES), InvalidRequest, "has no y"),
    "npz test without labels": (arrays(x=IMAGES, y=LABELS, x_test=IMAGES), InvalidRequest, "has no y_test"),
    "npz unknown name": (arrays(x=IMAGES, y=LABELS, z=LABELS), InvalidRequest, r"z\.npy: is unknown"),
    "npz lengths differ": (arrays(x=IMAGES, y=LABELS[:-1]), InvalidRequest, "has 39 labels, but x.npy has 40"),
    "npz float labels": (arrays(x=IMAGES, y=LABELS / 1.0), InvalidRequest, "whole numbers"),
    "npz one-hot two ones": (arrays(x=IMAGES, y=one_hot({5: [1, 0, 1, 0]})), InvalidRequest,
        r"y\.npy: row 5 is \[1, 0, 1, 0\]; a one-hot row"),
    "npz one-hot no one": (arrays(x=IMAGES, y=one_hot({39: [0, 0, 0, 0]})), InvalidRequest, "row 39 is"),
    "npz one-hot share": (arrays(x=IMAGES, y=one_hot({7: [0.5, 0.5, 0, 0]})), InvalidRequest, r"row 7 is \[0\.5"),
    "npz one-hot two": (arrays(x=IMAGES, y=one_hot({0: [0, 2, 0, 0]})), InvalidRequest, r"row 0 is \[0, 2, 0"),
    "npz one-hot negative": (arrays(x=IMAGES, y=one_hot({0: [1, 1, -1, 0]})), InvalidRequest, "row 0 is"),
    "npz one-hot NaN": (arrays(x=IMAGES, y=one_hot({3: [1, np.nan, 0, 0]})), InvalidRequest, r"row 3 is \[1, nan"),
    "npz one-hot text": (arrays(x=IMAGES, y=one_hot({}).astype(str)), InvalidRequest, "one-hot rows"),
    "npz one-hot lengths differ": (arrays(x=IMAGES, y=one_hot({})[:-1]), InvalidRequest, "has 39 labels"),
    "npz one-hot test": (arrays(x=IMAGES, y=one_hot({}), x_test=IMAGES, y_test=one_hot({2: [1, 1, 0, 0]})),
        InvalidRequest, r"y_test\.npy: row 2"),
    "npz one-hot columns differ": (arrays(x=IMAGES, y=one_hot({}), x_test=IMAGES, y_test=np.eye(5)[LABELS]),
        InvalidRequest, r"y_test\.npy: has 5 columns, but y\.npy has 4"),
    "npz labels of three dimensions": (arrays(x=IMAGES, y=one_hot({})[..., None]), InvalidRequest, "3 dimensions"),
    "npz negative label": (arrays(x=IMAGES, y=LABELS.astype(int) - 1), InvalidRequest, "row 0 is -1"),
    "npz NaN": (arrays(x=np.where(IMAGES[:, :1, :1] == 0, np.nan, 0.5) * np.ones_like(IMAGES, float), y=LABELS),
        InvalidRequest, "image 0 holds NaN"),
    "npz pixels out of range": (arrays(x=IMAGES.astype(int) * 9, y=LABELS), InvalidRequest, "scale them"),
    "npz flat images": (arrays(x=IMAGES.reshape(40, -1), y=LABELS), InvalidRequest, r"has the shape \[40, 30\]"),
    "npz column order": (arrays(x=np.asfortranarray(IMAGES), y=LABELS), InvalidRequest, "column-major"),
    "npz one class": (arrays(x=IMAGES, y=LABELS * 0), InvalidRequest, "only one class"),
    "npz no rows": (arrays(x=IMAGES[:0], y=LABELS[:0]), InvalidRequest, "no rows"),
    "npz big images": (arrays(x=np.zeros((2, 1025, 4), np.uint8), y=LABELS[:2]), InvalidRequest, "1024x1024"),
    "idx cut off": (idx_with("train-images-idx3-ubyte", idx(IMAGES)[:-7]), MalformedRequest,
        "is cut off: it ends in row 40 of 40"),
    "idx header cut off": (idx_with("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0"), MalformedRequest, "in its header"),
    "idx too long": (
        idx_with("train-labels-idx1-ubyte", idx(LABELS) + b"\0"),
        MalformedRequest, "has more data than its header says",
    ),
    "idx no magic": (idx_with("train-labels-idx1-ubyte", b"words, words"), MalformedRequest, "not an IDX file"),
    "idx of floats": (idx_with("train-images-idx3-ubyte", idx(IMAGES, 0x0D)), InvalidRequest, "data type 0x0d"),
    "idx absurd shape": (
        idx_with("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12), InvalidRequest, "has the shape"),
    "idx lengths differ": (idx_with("t10k-labels-idx1-ubyte", idx(LABELS)), InvalidRequest, "has 40 labels"),
    "idx labels missing": (file("train-images-idx3-ubyte", idx(IMAGES)), InvalidRequest,
        "has no train-labels-idx1-ubyte"),
    "cifar cut off": (file("data_batch_1.bin", bytes(3073 * 2 - 1)), MalformedRequest, "is cut off"),
    "cifar label": (file("data_batch_1.bin", bytes(3073) + b"\x0b" + bytes(3072)), InvalidRequest,
        "record 2 has the label 11"),
    "cifar test only": (file("test_batch.bin", bytes(3073)), InvalidRequest, "no training part"),
    # pictures
    "jpeg cut off": (folder_with("cats/z.jpg", picture((300, 300))[:700]), InvalidRequest, r"cats/z\.jpg: "),
    "jpeg empty": (folder_with("cats/z.jpg", b""), InvalidRequest, r"cats/z\.jpg: "),
    "png named jpg": (
        folder_with("cats/z.jpg", picture(format="PNG")),
        InvalidRequest, r"z\.jpg: has the suffix \.jpg but .* PNG",
    ),
    "gif named png": (folder_with("cats/z.png", picture(format="GIF")), InvalidRequest, "content is GIF"),
    "text named jpg": (folder_with("cats/z.jpg", b"hello"), InvalidRequest, r"z\.jpg: is not a readable JPEG"),
    "image bomb": (folder_with("cats/z.png", png_of(9_000, 9_000)), InvalidRequest, r"z\.png: has 9000x9000 pixels"),
    "huge image bomb": (
        folder_with("cats/z.png", png_of(60_000, 60_000)),
        InvalidRequest, r"z\.png: has too many pixels",
    ),
    "picture outside classes": (folder_with("z.jpg", picture()), InvalidRequest, "is not in a class folder"),
    "text among pictures": (folder_with("cats/notes.txt", b"hello"), InvalidRequest, r"notes\.txt: is not an image"),
    "one class": (lambda f: class_folders(f / "pets") / "cats", InvalidRequest, "is not in a class folder"),
    "one class folder": (
        lambda f: (class_folders(f / "p" / "x"), (f / "p" / "x" / "dogs").rename(f / "d"), f / "p")[2],
        InvalidRequest, "only one class",
    ),
    "class only in test": (
        lambda f: (class_folders(f / "p" / "train"), class_folders(f / "p" / "test"),
            (f / "p" / "test" / "cats").rename(f / "p" / "test" / "cows"), f / "p")[3],
        InvalidRequest, "is of class cows",
    ),
    # CSV
    "csv without rows": (file("a.csv", b"text,label\n"), InvalidRequest, r"a\.csv, line 1: has no rows"),
    "csv empty": (file("a.csv", b""), InvalidRequest, "line 1: is empty"),
    "csv without header": (file("a.csv", b"good,1\nbad,0\n"), InvalidRequest, "line 1: does not name the columns"),
    "csv ragged": (file("a.csv", b"text,label\na,1\nb,c,0\n"), InvalidRequest, r"a\.csv, line 3: has 3 fields"),
    "csv short row": (file("a.csv", b'text,label\n"a\nb",1\nb\n'), InvalidRequest, "line 4: has 1 fields"),
    "csv open quote": (file("a.csv", b'text,label\na,1\n"b,0\nc,0\n'), InvalidRequest, "line 3: is not valid CSV"),
    "csv one class": (file("a.csv", b"text,label\na,1\nb,1\n"), InvalidRequest, r"only one class \(1\)"),
    "csv NUL": (file("a.csv", b"text,label\na,1\nb\0,0\n"), InvalidRequest, "line 3: holds a NUL"),
    "csv UTF-16": (file("a.csv", f"text,label\n{ROWS}".encode("utf-16")), InvalidRequest,
        "line 1: is not UTF-8 .UTF-16"),
    "csv latin-1": (file("a.csv", "text,label\na,1\nélan,0\n".encode("latin-1")), InvalidRequest,
        "line 3: is not UTF-8 .byte 0xe9"),
    "csv empty text": (file("a.csv", b"text,label\na,1\n ,0\n"), InvalidRequest, "line 3: has an empty text"),
    "csv empty label": (file("a.csv", b"text,label\na,1\nb,\n"), InvalidRequest, "line 3: has a label that is empty"),
    "csv class only in test": (
        lambda f: zipped(f / "a.zip", {"train.csv": b"text,label\na,1\nb,0\n", "test.csv": b"text,label\na,2\n"}),
        InvalidRequest, "test.csv, line 2: has the class '2'",
    ),
    # JSON lines
    "jsonl empty": (file("a.jsonl", b"\n \n"), InvalidRequest, r"a\.jsonl, line 1: is empty"),
    "jsonl not JSON": (file("a.jsonl", GOOD + b'{"text": "b" "label": 0}\n'), InvalidRequest,
        r"line 3, column 14: is not valid JSON: Expecting ',' delimiter"),
    "jsonl not an object": (file("a.jsonl", GOOD + b'["b", 0]\n'), InvalidRequest, "line 3: is not an object"),
    "jsonl no text": (file("a.jsonl", GOOD + b'{"label": 0}\n'), InvalidRequest, "line 3: has no field text"),
    "jsonl no label": (file("a.jsonl", GOOD + b'{"text": "b"}\n'), InvalidRequest, "line 3: has no field label"),
    "jsonl text is no text": (file("a.jsonl", GOOD + b'{"text": ["b"], "label": 0}\n'), InvalidRequest,
        "line 3: the field text is a list, but must be text"),
    "jsonl label is null": (file("a.jsonl", GOOD + b'{"text": "b", "label": null}\n'), InvalidRequest,
        "line 3: the field label is null, but must be text or a number"),
    "jsonl empty text": (file("a.jsonl", GOOD + b'{"text": " ", "label": 0}\n'), InvalidRequest,
        "line 3: has an empty text"),
    "jsonl empty label": (file("a.jsonl", GOOD + b'{"text": "b", "label": ""}\n'), InvalidRequest,
        "line 3: has a label that"),
    "jsonl NaN": (file("a.jsonl", GOOD + b'{"text": "b", "label": NaN}\n'), InvalidRequest, "3: is not valid JSON"),
    "jsonl brackets": (file("a.jsonl", GOOD + b"[" * 100_000), InvalidRequest, "line 3: is not valid JSON"),
    "jsonl digits": (file("a.jsonl", GOOD + b'{"text": "b", "label": ' + b"9" * 9000 + b"}\n"), InvalidRequest,
        "line 3: is not valid JSON"),
    "jsonl NUL": (file("a.jsonl", GOOD + rb'{"text": "a\u0000", "label": 0}'), InvalidRequest, "text holds a NUL"),
    "jsonl half a pair": (file("a.jsonl", GOOD + rb'{"text": "\ud800", "label": 0}'), InvalidRequest, "half of a surr"),
    "jsonl latin-1": (file("a.jsonl", GOOD + '{"text": "élan", "label": 0}'.encode("latin-1")), InvalidRequest,
        "line 3: is not UTF-8 .byte 0xe9"),
    "jsonl UTF-16": (file("a.jsonl", GOOD.decode().encode("utf-16")), InvalidRequest, "line 1: is not UTF-8 .UTF-16"),
    "jsonl one class": (file("a.jsonl", GOOD[: GOOD.index(b"\n")]), InvalidRequest, r"only one class \(0\)"),
    "jsonl long": (file("a.jsonl", GOOD + b'{"text": "' + b"b" * 10_000_000), InvalidRequest,
        "line 3: has a line longer"),
    "jsonl class only in test": (
        lambda f: zipped(f / "a.zip", {"train.jsonl": GOOD, "test.jsonl": GOOD + b'{"text": "b", "label": 2}'}),
        InvalidRequest, "test.jsonl, line 3: has the class '2'",
    ),
    # texts by class
    "texts by class latin-1": (by_class(**{"pos/1": b"one\ntw\xe9"}), InvalidRequest,
        r"pos/1\.txt, line 2: is not UTF-8"),
    "texts by class NUL": (by_class(**{"pos/1": b"one\0"}), InvalidRequest, r"pos/1\.txt, line 1: holds a NUL"),
    "texts by class empty": (by_class(**{"neg/1": b"\n \n"}), InvalidRequest, r"neg/1\.txt: has an empty text"),
    "texts by class long": (
        lambda f: by_class(**{"neg/1": np.random.default_rng(0).bytes(5_000_001).hex().encode()})(f),
        InvalidRequest, r"neg/1\.txt: is longer than",
    ),
    "texts by class only in test": (
        lambda f: zipped(f / "a.zip", {f"{name}.txt": b"words" for name in
            ("train/a/1", "train/a/2", "train/b/1", "train/b/2", "test/c/1")}),
        InvalidRequest, r"test/c/1\.txt: has the class 'c'",
    ),
    # text
    "text NUL": (file("a.txt", b"one\ntwo\n\0"), InvalidRequest, r"a\.txt, line 3: holds a NUL"),
    "text UTF-16": (file("a.txt", "words".encode("utf-16")), InvalidRequest, "line 1: is not UTF-8 .UTF-16"),
    "text latin-1": (file("a.txt", b"one\ntwo\nthr\xe9e\n"), InvalidRequest, "line 3: is not UTF-8 .byte 0xe9"),
    "text ends in a character": (file("a.txt", "one\ntwö".encode()[:-1]), InvalidRequest, "line 2: is not UTF-8"),
    "text too short": (file("a.txt", b"a"), InvalidRequest, "too short"),
    "texts half named": (
        lambda f: zipped(f / "a.zip", {"train.txt": b"words", "more.txt": b"words"}),
        InvalidRequest, r"more\.txt: has none of train",
    ),
    "texts among others": (
        lambda f: zipped(f / "a.zip", {"a.txt": b"words", "b.dat": b"words"}),
        InvalidRequest, r"b\.dat: does not end in",
    ),
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", _env_file=None)


@pytest.fixture
def engine(sqlite_engine: Engine) -> Engine:
    return sqlite_engine


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_and_leave_nothing(case: str, tmp_path: Path, engine: Engine, settings: Settings) -> None:
    make, error, message = BAD[case]
    path = make(tmp_path)
    with pytest.raises(error, match=message) as caught:
        registry.register(engine, settings, "new", path)
    assert caught.value.detail.isprintable()
    root = settings.storage_root / "datasets"
    assert not root.exists() or list(root.iterdir()) == []
    with read(engine) as conn:
        assert conn.scalar(select(func.count()).select_from(Dataset)) == 0


def test_a_data_set_larger_than_allowed_is_refused_before_it_is_written(tmp_path: Path, engine: Engine) -> None:
    small = Settings(data_dir=tmp_path / "data", max_dataset_bytes=1_000_000, _env_file=None)
    path = npz(tmp_path / "set.npz", x=np.zeros((2000, 30, 30), np.uint8), y=np.arange(2000) % 2)
    with pytest.raises(RequestError, match="100 times"):
        registry.register(engine, small, "new", path)
    noise = np.random.default_rng(0).integers(0, 256, (2000, 30, 30), np.uint8)
    with pytest.raises(TooLarge, match="1,816,000 bytes"):
        registry.register(engine, small, "new", npz(tmp_path / "set.npz", x=noise, y=np.arange(2000) % 2))


@pytest.mark.parametrize("name", ["../x", "a b", "", "digits", "x\n", "é"])
def test_names_are_checked(name: str, tmp_path: Path, engine: Engine, settings: Settings) -> None:
    path = npz(tmp_path / "set.npz", x=IMAGES, y=LABELS)
    with pytest.raises(InvalidRequest, match="name"):
        registry.register(engine, settings, name, path)


def test_an_unknown_format_names_the_known_ones(tmp_path: Path, engine: Engine, settings: Settings) -> None:
    with pytest.raises(InvalidRequest, match="idx, npz, cifar10, images, csv, text"):
        registry.register(engine, settings, "new", npz(tmp_path / "set.npz", x=IMAGES, y=LABELS), "parquet")


def test_a_wrong_format_is_an_error_of_the_file(tmp_path: Path, engine: Engine, settings: Settings) -> None:
    path = npz(tmp_path / "set.npz", x=IMAGES, y=LABELS)
    for format in set(formats.FORMATS) - {"npz"}:
        with pytest.raises(RequestError):
            registry.register(engine, settings, "new", path, format)


def test_a_built_in_name_takes_its_own_kind_only(tmp_path: Path, engine: Engine, settings: Settings) -> None:
    with pytest.raises(InvalidRequest, match="10 classes"):
        registry.register(engine, settings, "mnist", npz(tmp_path / "set.npz", x=IMAGES, y=LABELS))


def test_an_image_that_breaks_late_leaves_nothing(tmp_path: Path, engine: Engine, settings: Settings) -> None:
    pets = class_folders(tmp_path / "pets", 20)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    noise.save(pets / "dogs" / "19.jpg")
    data = (pets / "dogs" / "19.jpg").read_bytes()
    (pets / "dogs" / "19.jpg").write_bytes(data[: len(data) // 2])  # its header is whole
    with pytest.raises(InvalidRequest, match=r"dogs/19\.jpg: cannot be decoded"):
        registry.register(engine, settings, "new", pets)
    assert list((settings.storage_root / "datasets").iterdir()) == []


def valid_files(folder: Path) -> dict[str, bytes]:
    """One whole, packed file of each format."""
    folder.mkdir()
    idx_set = zipped_folder(folder / "idx.zip", idx_folder(folder / "idx"))
    pets = zipped_folder(folder / "pets.zip", class_folders(folder / "pets", 2, ".png"))
    whole = {
        "idx.zip": idx_set.read_bytes(),
        "pets.zip": pets.read_bytes(),
        "set.npz": npz(folder / "set.npz", x=IMAGES, y=LABELS).read_bytes(),
        "set.csv.gz": gzip.compress(f"text,label\n{ROWS}".encode()),
        "set.csv": f"text,label\n{ROWS}".encode(),
        "set.jsonl": GOOD * 4,
        "set.conll": b"EU B-ORG\nis O\n\nEU B-ORG\n\nis O\n\n",
        "texts.zip": by_class()(folder).read_bytes(),
        "set.txt": "one two ⅔\n\nthree\n".encode() * 3,
        "set.bin": bytes(3073) + b"\1" + bytes(3072),
    }
    return whole


@pytest.mark.parametrize("seed", range(10))
def test_no_damage_is_anything_but_a_clear_error(seed: int, tmp_path: Path, settings: Settings, engine: Engine) -> None:
    """Flipped, cut and repeated bytes: a version or a RequestError, never another exception, never litter."""
    random = np.random.default_rng(seed)
    name, whole = list(valid_files(tmp_path / "whole").items())[seed]
    path = tmp_path / name
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(0, len(data), random.integers(1, 4)):
            data[at] = random.choice([0, 0xFF, data[at] ^ (1 << random.integers(8))])
        cut, again = sorted(random.integers(0, len(data), 2))
        shape = random.integers(3)
        path.write_bytes(data if shape == 0 else data[:again] if shape == 1 else data[:again] + data[cut:])
        with contextlib.suppress(RequestError), open_files(path) as files:
            formats.read(files)
            registry.register(engine, settings, f"damaged-{seed}", path)
    root = settings.storage_root / "datasets"
    assert not root.exists() or [found for found in root.iterdir() if found.name.startswith(".")] == []
