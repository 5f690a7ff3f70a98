"""What is wrong with a file a user gave, said with its name and line."""

from __future__ import annotations

from nightshift.errors import FieldError, InvalidRequest, MalformedRequest

#: Longest part of a file's name that is repeated in a message.
_SHOWN = 200


def printable(name: str) -> str:
    """A user's file name as it may appear in a message: control, format and broken characters escaped."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in name)
    return shown if len(shown) <= _SHOWN else "…" + shown[-_SHOWN:]


def bad_file(name: str, problem: str, line: int | None = None) -> InvalidRequest:
    """422: this file (and line) has content that cannot be used."""
    loc: tuple[str | int, ...] = ("file", printable(name)) if line is None else ("file", printable(name), line)
    return InvalidRequest(f"{_where(name, line)}: {problem}", [FieldError(loc, problem)])


def broken_file(name: str, problem: str) -> MalformedRequest:
    """400: this file is cut off or not what it says it is."""
    return MalformedRequest(f"{_where(name, None)}: {problem}", [FieldError(("file", printable(name)), problem)])


def _where(name: str, line: int | None) -> str:
    return printable(name) if line is None else f"{printable(name)}, line {line}"
