"""Labelled documents: what every format of them checks, and the source that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from shared.datasets.errors import bad_file, printable
from shared.datasets.ingest.build_text import Block, TextSource, TextSplit
from shared.datasets.ingest.source_files import Files
from shared.lazy_numpy import np

_MAX_CLASSES = 65_536


@dataclass(frozen=True, slots=True)
class Row:
    """A document with its label, and the line where it begins; None: it is a whole file."""

    text: str
    label: str
    line: int | None = None


#: Reads the rows of one file. It is called twice: the first time, every row is checked and its label kept.
ReadRows = Callable[[Files, str], Iterator[Row]]


def read_labelled(files: Files, parts: Mapping[str, list[str]], rows: ReadRows) -> TextSource:
    """Read the rows of each part's files. Raises InvalidRequest, with the line."""
    checked = partial(_checked, rows)
    found = {part: {name: _labels(files, name, checked) for name in names} for part, names in parts.items()}
    known = {label for labels in found["train"].values() for label in labels}
    _check_classes(files, parts["train"][0], known)
    for of_file in found.values():
        for name, labels in of_file.items():
            if unknown := set(labels) - known:
                raise _unknown(files, name, checked, min(unknown))
    classes = _sorted(known)
    number = {label: index for index, label in enumerate(classes)}
    splits = {
        part: TextSplit(
            partial(_blocks, files, list(of_file), rows),
            np.array([number[label] for labels in of_file.values() for label in labels], np.int64),
        )
        for part, of_file in found.items()
    }
    return TextSource(splits, classes)


def _check_classes(files: Files, name: str, known: set[str]) -> None:
    where = name if len(files.names) == 1 else files.label
    if len(known) < 2:
        raise bad_file(where, f"has only one class ({printable(min(known))}); a classifier needs at least two")
    if len(known) > _MAX_CLASSES:
        raise bad_file(where, f"has {len(known)} different labels; at most {_MAX_CLASSES}")


def _unknown(files: Files, name: str, rows: ReadRows, label: str) -> Exception:
    line = next(row.line for row in rows(files, name) if row.label == label)
    return bad_file(name, f"has the class {printable(label)!r}, which the training part does not have", line)


def _labels(files: Files, name: str, rows: ReadRows) -> list[str]:
    """Return the label of each row. Equal labels share one string."""
    known: dict[str, str] = {}
    return [known.setdefault(row.label, row.label) for row in rows(files, name)]


def _checked(rows: ReadRows, files: Files, name: str) -> Iterator[Row]:
    for row in rows(files, name):
        if not row.text.strip():
            raise bad_file(name, "has an empty text", row.line)
        if not row.label or row.label != printable(row.label):
            raise bad_file(name, "has a label that is empty, too long or has unprintable characters", row.line)
        yield row


def _blocks(files: Files, names: list[str], rows: ReadRows) -> Iterator[Block]:
    for name in names:
        for row in rows(files, name):
            data = row.text.encode() + b"\n"
            yield Block(data, [len(data)])


def _sorted(labels: set[str]) -> list[str]:
    numeric = all(label.isascii() and label.isdigit() and len(label) < 10 for label in labels)
    return sorted(labels, key=int) if numeric else sorted(labels)
