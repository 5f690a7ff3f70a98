"""Readers of data set formats, one module each with `recognizes(files)` and `read(files)`, and format detection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from nightshift.errors import InvalidRequest, UnsupportedMedia
from nightshift.names import DATA_KINDS, FILES, FORMATS, TABLE, data_of
from shared.datasets.errors import bad_file, printable
from shared.datasets.formats import cifar, conll, csv_text, idx, json_lines, npz, pictures, text, text_folders
from shared.datasets.ingest.build import ImageSource
from shared.datasets.ingest.build_files import FileSource
from shared.datasets.ingest.build_text import TextSource
from shared.datasets.ingest.source_files import PARQUET, Files, is_parquet, open_unpacked

if TYPE_CHECKING:
    from shared.datasets.ingest.build_table import TableSource

Source: TypeAlias = "ImageSource | TextSource | FileSource | TableSource"

_READERS: dict[str, Callable[[Files], ImageSource | TextSource]] = {
    "idx": idx.read, "npz": npz.read, "cifar10": cifar.read, "csv": csv_text.read, "text": text.read,
    "jsonl": json_lines.read, "text_folders": text_folders.read, "conll": conll.read,
}  # fmt: skip
#: Formats in the order in which they are tried, with the modules that recognize them.
_RECOGNIZED = {
    "npz": npz, "idx": idx, "cifar10": cifar, "images": pictures, "csv": csv_text, "jsonl": json_lines,
    "text_folders": text_folders, "conll": conll,
}  # fmt: skip

#: First bytes of files in unsupported formats -> the format's name.
_FOREIGN = {
    b"\x89HDF": "HDF5", b"\x80\x02": "a pickle", b"\x80\x03": "a pickle", b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR", b"BZh": "bzip2", b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard", PARQUET: "Parquet", b"%PDF": "PDF", b"SQLite format 3": "SQLite",
    b"\x7fELF": "a program", b"MZ\x90": "a program",
}  # fmt: skip
_TAR_AT, _TAR = 257, b"ustar"
#: Files checked for unsupported formats before a format is chosen.
_CHECKED_FILES = 20
_HELP = (
    "send IDX or class folders of images in a zip, .npz, CSV (text,label), JSON lines, class folders of texts, CoNLL "
    "columns or plain text; or name the kind: table for a CSV or Parquet file with any columns, files for anything else"
)


def read(
    files: Files, format: str | None = None, *, kind: str | None = None, image_size: tuple[int, int] | None = None
) -> Source:
    """Read the files as data of `kind` in `format`; what is None is found from the content.

    Files of any sort, and CSV files with any columns, must be named by their kind. Raises InvalidRequest,
    MalformedRequest or UnsupportedMedia.
    """
    _check_choice(kind, format)
    if not files.names:
        raise bad_file(files.label, "holds no files")
    if kind == FILES:
        return FileSource(files)
    if kind == TABLE or (kind is None and format is None and is_parquet(files, files.names[0])):
        return _table(files)
    found = _examples(files, format, image_size)
    if kind not in (None, found.kind):
        raise InvalidRequest.field(("kind",), f"is {kind}, but {printable(files.label)} holds {data_of(found.kind)}")
    return found


def _check_choice(kind: str | None, format: str | None) -> None:
    if kind is not None and kind not in DATA_KINDS:
        raise InvalidRequest.field(("kind",), f"{printable(kind)!r} is unknown; use one of {', '.join(DATA_KINDS)}")
    if kind in (FILES, TABLE) and format is not None:
        raise InvalidRequest.field(("format",), f"is for images and text; leave it out for kind {kind}")


def _table(files: Files) -> TableSource:
    from shared.datasets.formats import table  # imports pyarrow, which only tables need

    return table.read(files)


def _examples(files: Files, format: str | None, image_size: tuple[int, int] | None) -> ImageSource | TextSource:
    for name in files.names[:_CHECKED_FILES]:
        _refuse_foreign(files, name)
    chosen = format or detect(files)
    if chosen not in FORMATS:
        raise InvalidRequest.field(("format",), f"{printable(chosen)!r} is unknown; use one of {', '.join(FORMATS)}")
    return pictures.read(files, image_size) if chosen == "images" else _READERS[chosen](files)


def detect(files: Files) -> str:
    """Detect the format by file names and content; files that no other format recognizes are text."""
    for format, module in _RECOGNIZED.items():
        if module.recognizes(files):
            return format
    return "text"


def _refuse_foreign(files: Files, name: str) -> None:
    with files.open(name) as stream:
        head = _head(stream)
    if head.startswith(b"\x93NUMPY") and name == files.label:
        raise bad_file(
            name, "is a single array; put images and labels in one .npz: np.savez('set.npz', x=images, y=labels)"
        )
    kind = next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None)
    if kind is None and (head[_TAR_AT:].startswith(_TAR) or _is_packed_tar(files, name, head)):
        kind = "a tar archive"
    if kind is None and len(files.names) == 1 and head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")):
        kind = "a single picture"
    if kind is not None:
        raise UnsupportedMedia(f"{printable(name)}: is {kind}; {_HELP}")


def _is_packed_tar(files: Files, name: str, head: bytes) -> bool:
    if name.lower().endswith((".tar", ".tgz", ".tar.gz")):
        return True
    if not head.startswith(b"\x1f\x8b") or not name.lower().endswith(".gz"):
        return False
    with open_unpacked(files, name) as stream:
        return _head(stream)[_TAR_AT:].startswith(_TAR)


def _head(stream: BinaryIO) -> bytes:
    return stream.read(512)


__all__ = ["FORMATS", "Source", "detect", "read"]
