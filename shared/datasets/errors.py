"""Errors in a user's file, with its name, line and column."""

from __future__ import annotations

from nightshift.errors import FieldError, InvalidRequest, MalformedRequest

#: Longest part of a file's name that is repeated in a message.
_SHOWN = 200


def printable(name: str) -> str:
    """Return a user's file name for a message: shortened, with unprintable characters escaped."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in name)
    return shown if len(shown) <= _SHOWN else "…" + shown[-_SHOWN:]


def bad_file(name: str, problem: str, line: int | None = None, column: int | None = None) -> InvalidRequest:
    """Return the error (422) for a file, or a line or a column of it, with unusable content."""
    place = [number for number in (line, column) if number is not None]
    where = _where(name, line) + ("" if column is None else f", column {column}")
    return InvalidRequest(f"{where}: {problem}", [FieldError(("file", printable(name), *place), problem)])


def broken_file(name: str, problem: str) -> MalformedRequest:
    """Return the error (400) for a file that is truncated or not of its declared format."""
    return MalformedRequest(f"{_where(name, None)}: {problem}", [FieldError(("file", printable(name)), problem)])


def _where(name: str, line: int | None) -> str:
    return printable(name) if line is None else f"{printable(name)}, line {line}"
