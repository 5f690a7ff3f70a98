"""CSV with the columns `text` and `label` (any order, UTF-8): labelled documents, one per row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial

import numpy as np

from shared.datasets.errors import bad_file, printable
from shared.datasets.formats.parts import by_part
from shared.datasets.formats.utf8 import decode_line
from shared.datasets.ingest.build_text import Block, TextSource, TextSplit
from shared.datasets.ingest.source_files import Files, open_unpacked

#: Longest line (bytes) and field (characters). Too low: long documents are refused. Too high: a field whose quote is
#: never closed takes as much memory.
MAX_LINE = 10_000_000
_SUFFIXES = (".csv",)
_MAX_CLASSES = 65_536


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
    names = by_part(files, _SUFFIXES)
    found = {part: [label for name in group for label in _labels(files, name)] for part, group in names.items()}
    classes = _sorted(set(found["train"]))
    number = {label: index for index, label in enumerate(classes)}
    for part, labels in found.items():
        if unknown := set(labels) - number.keys():
            raise bad_file(
                names[part][0], f"has the class {printable(min(unknown))!r}, which the training part does not have"
            )
    if len(classes) < 2:
        raise bad_file(
            names["train"][0], f"has only one class ({printable(classes[0])}); a classifier needs at least two"
        )
    splits = {
        part: TextSplit(
            partial(_blocks, files, names[part]),
            np.fromiter((number[label] for label in labels), np.int64, len(labels)),
        )
        for part, labels in found.items()
    }
    return TextSource(splits, classes)


def _sorted(labels: set[str]) -> list[str]:
    numeric = all(label.isascii() and label.isdigit() and len(label) < 10 for label in labels)
    return sorted(labels, key=int) if numeric else sorted(labels)


def _labels(files: Files, name: str) -> list[str]:
    """Return the label of each row and check every row. Equal labels share one string."""
    known: dict[str, str] = {}
    labels = [known.setdefault(label, label) for _, label in _rows(files, name)]
    if not labels:
        raise bad_file(name, "has no rows below its header", 1)
    if len(known) > _MAX_CLASSES:
        raise bad_file(name, f"has {len(known)} different labels; at most {_MAX_CLASSES}")
    return labels


def _blocks(files: Files, names: list[str]) -> Iterator[Block]:
    for name in names:
        for text, _ in _rows(files, name):
            data = text.encode() + b"\n"
            yield Block(data, [len(data)])


def _rows(files: Files, name: str) -> Iterator[tuple[str, str]]:
    """Yield (text, label) of each row. Raises InvalidRequest with the line."""
    csv.field_size_limit(MAX_LINE)
    with open_unpacked(files, name) as stream:
        reader = csv.reader(_lines(stream, name), strict=True)
        at, line = None, 1
        try:
            for row in reader:
                if at is None:
                    at = _columns_of(row, name)
                elif row:
                    yield _checked(row, at, name, line)
                line = reader.line_num + 1
        except csv.Error as error:
            raise bad_file(name, f"is not valid CSV: {error}", line) from error
    if at is None:
        raise bad_file(name, "is empty; the first line names the columns: text,label", 1)


def _checked(row: list[str], at: tuple[int, int], name: str, line: int) -> tuple[str, str]:
    if len(row) != 2:
        raise bad_file(
            name, f"has {len(row)} fields; every row has two, text and label (quote a text with commas)", line
        )
    text, label = row[at[0]], row[at[1]].strip()
    if not text.strip():
        raise bad_file(name, "has an empty text", line)
    if not label or label != printable(label):
        raise bad_file(name, "has a label that is empty, too long or has unprintable characters", line)
    return text, label


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


def _lines(stream: object, name: str) -> Iterator[str]:
    number = 0
    while raw := stream.readline(MAX_LINE + 1):  # type: ignore[attr-defined]
        number += 1
        if len(raw) > MAX_LINE:
            raise bad_file(name, f"has a line longer than {MAX_LINE:,} bytes", number)
        yield decode_line(raw, name, number)
