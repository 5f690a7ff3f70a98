"""Strict UTF-8 decoding; errors name the line of the first invalid byte."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from nightshift.errors import InvalidRequest
from shared.datasets.errors import bad_file

BLOCK_BYTES = 4_000_000
#: Longest line (bytes), and longest field of a CSV (characters). Too low: long documents are refused. Too high: a field
#: whose quote is never closed takes as much memory.
MAX_LINE = 10_000_000
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines with their ends. Raises InvalidRequest for one longer than `MAX_LINE`."""
    number = 0
    while raw := stream.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            raise bad_file(name, f"has a line longer than {MAX_LINE:,} bytes", number)
        yield decode_line(raw, name, number)


def decode_line(raw: bytes, name: str, line: int) -> str:
    """Decode one line. A byte order mark before the first line is dropped."""
    if line == 1 and raw.startswith(_UTF16):
        raise _not_utf8(name, "UTF-16", 1)
    if b"\0" in raw:
        raise bad_file(name, "holds a NUL byte; is it text?", line)
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(name, f"byte 0x{raw[error.start]:02x}", line) from error


def blocks(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the checked stream in blocks of whole characters.

    The byte order mark and carriage returns before newlines are removed.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, held, first = 1, b"", True
    while True:
        raw = stream.read(BLOCK_BYTES)
        if first and raw.startswith(_UTF16):
            raise _not_utf8(name, "UTF-16", 1)
        _check(raw, decoder, name, line, last=not raw)
        line += raw.count(b"\n")
        data = held + (raw.removeprefix(codecs.BOM_UTF8) if first else raw)
        first = False
        if not raw:
            if data:
                yield data
            return
        # A carriage return, or part of a character, belongs to the next block.
        keep = 1 if data.endswith(b"\r") else _pending(decoder)
        held, data = data[len(data) - keep :], data[: len(data) - keep]
        yield data.replace(b"\r\n", b"\n")


def _check(raw: bytes, decoder: codecs.IncrementalDecoder, name: str, line: int, *, last: bool) -> None:
    if b"\0" in raw:
        raise bad_file(name, "holds a NUL byte; is it text?", line + raw.count(b"\n", 0, raw.index(b"\0")))
    pending = _pending(decoder)
    try:
        decoder.decode(raw, last)
    except UnicodeDecodeError as error:
        at = max(0, error.start - pending)
        raise _not_utf8(name, f"byte 0x{error.object[error.start]:02x}", line + raw.count(b"\n", 0, at)) from error


def _pending(decoder: codecs.IncrementalDecoder) -> int:
    """Return how many last bytes are part of a character whose other bytes are still missing."""
    return len(decoder.getstate()[0])


def _not_utf8(name: str, found: str, line: int) -> InvalidRequest:
    return bad_file(name, f"is not UTF-8 ({found}); save it as UTF-8, for example: iconv -f latin1 -t utf-8", line)
