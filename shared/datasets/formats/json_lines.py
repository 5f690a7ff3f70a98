"""JSON lines: an object with the fields `text` and `label` on each line; other fields are ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from shared.datasets.errors import bad_file
from shared.datasets.formats.labelled import Row, read_labelled
from shared.datasets.formats.parts import by_part, have_suffix
from shared.datasets.formats.utf8 import lines
from shared.datasets.ingest.build_text import TextSource
from shared.datasets.ingest.source_files import Files, open_unpacked

_SUFFIXES = (".jsonl", ".ndjson")
_FORM = '{"text": "…", "label": "…"}'


def recognizes(files: Files) -> bool:
    """Return whether all files are named as JSON lines."""
    return have_suffix(files, _SUFFIXES)


def read(files: Files) -> TextSource:
    """Read labeled documents. Raises InvalidRequest, with the line and the field."""
    return read_labelled(files, by_part(files, _SUFFIXES), _rows)


def _rows(files: Files, name: str) -> Iterator[Row]:
    empty = True
    with open_unpacked(files, name) as stream:
        for number, line in enumerate(lines(stream, name), 1):
            if line.strip():
                empty = False
                yield _row(line, name, number)
    if empty:
        raise bad_file(name, f"is empty; every line holds {_FORM}", 1)


def _row(line: str, name: str, number: int) -> Row:
    try:
        found = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise bad_file(name, f"is not valid JSON: {error.msg}", number, error.colno) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise bad_file(name, f"is not valid JSON: {error}", number) from error
    if not isinstance(found, dict):
        raise bad_file(name, f"is not an object; every line holds {_FORM}", number)
    for field in ("text", "label"):
        if field not in found:
            raise bad_file(name, f"has no field {field}; every line holds {_FORM}", number)
    return Row(_text(found["text"], name, number), _label(found["label"], name, number), number)


def _text(value: Any, name: str, line: int) -> str:
    if not isinstance(value, str):
        raise bad_file(name, f"the field text is {_type(value)}, but must be text", line)
    if "\0" in value:
        raise bad_file(name, "the field text holds a NUL character", line)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise bad_file(name, "the field text holds half of a surrogate pair (\\ud800 to \\udfff)", line) from error
    return value


def _label(value: Any, name: str, line: int) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str | int | float):
        raise bad_file(name, f"the field label is {_type(value)}, but must be text or a number", line)
    return str(value).strip()


def _type(value: Any) -> str:
    """Return what a value is in the words of JSON."""
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number", str: "text"}
    return names.get(type(value), "null")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")
