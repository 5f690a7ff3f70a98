"""CSV with the columns `text` and `label` (any order, UTF-8): labelled documents, one per row."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from shared.datasets.errors import bad_file
from shared.datasets.formats.labelled import Row, read_labelled
from shared.datasets.formats.parts import by_part
from shared.datasets.formats.utf8 import MAX_LINE, lines
from shared.datasets.ingest.build_text import TextSource
from shared.datasets.ingest.source_files import Files, open_unpacked

_SUFFIXES = (".csv",)


def recognizes(files: Files) -> bool:
    """Return whether all files are CSV, or the only file has the header of one."""
    if all(name.lower().removesuffix(".gz").endswith(_SUFFIXES) for name in files.names):
        return True
    if len(files.names) > 1:
        return False
    with open_unpacked(files, files.names[0]) as stream:
        return _columns(stream.read(100).partition(b"\n")[0].decode("utf-8-sig", "replace")) is not None


def read(files: Files) -> TextSource:
    """Read labeled documents. Raises InvalidRequest, with the line."""
    return read_labelled(files, by_part(files, _SUFFIXES), _rows)


def _rows(files: Files, name: str) -> Iterator[Row]:
    """Yield the rows. Raises InvalidRequest with the line."""
    csv.field_size_limit(MAX_LINE)
    with open_unpacked(files, name) as stream:
        reader = csv.reader(lines(stream, name), strict=True)
        at, line, empty = None, 1, True
        try:
            for row in reader:
                if at is None:
                    at = _columns_of(row, name)
                elif row:
                    empty = False
                    yield _row(row, at, name, line)
                line = reader.line_num + 1
        except csv.Error as error:
            raise bad_file(name, f"is not valid CSV: {error}", line) from error
    if at is None:
        raise bad_file(name, "is empty; the first line names the columns: text,label", 1)
    if empty:
        raise bad_file(name, "has no rows below its header", 1)


def _row(row: list[str], at: tuple[int, int], name: str, line: int) -> Row:
    if len(row) != 2:
        raise bad_file(
            name, f"has {len(row)} fields; every row has two, text and label (quote a text with commas)", line
        )
    return Row(row[at[0]], row[at[1]].strip(), line)


def _columns_of(row: list[str], name: str) -> tuple[int, int]:
    at = _columns(",".join(row))
    if at is None:
        raise bad_file(
            name,
            "does not name the columns; the first line must be: text,label (a table of other columns: kind table)",
            1,
        )
    return at


def _columns(header: str) -> tuple[int, int] | None:
    names = [part.strip().strip('"').lower() for part in header.split(",")]
    return (names.index("text"), names.index("label")) if sorted(names) == ["label", "text"] else None
