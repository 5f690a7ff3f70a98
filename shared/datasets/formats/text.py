"""Plain text for language models: `.txt` (also `.md`, or one file of any name), or `.tokens` as in WikiText.

Documents are the units that batch inference scores. In plain text they end at blank lines; in `.tokens`, whose words
are already separated by spaces, they begin at headings (` = Title = `). Every file begins a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from shared.datasets.errors import bad_file
from shared.datasets.formats.parts import by_part
from shared.datasets.formats.utf8 import blocks
from shared.datasets.ingest.build_text import Block, TextSource, TextSplit
from shared.datasets.ingest.source_files import Files, open_unpacked

_SUFFIXES = (".txt", ".tokens", ".text", ".md")
_TOKENS = ".tokens"

_BLANK_LINES = rb"\n(?:[ \t\r]*+\n)++"
_PARAGRAPH = re.compile(_BLANK_LINES)
_ARTICLE = re.compile(_BLANK_LINES + rb"(?= = [^=\n]+ = ?(?:\n|\Z))")
#: A line longer than this (bytes) is split; the end of a document inside it may then be missed.
_LONGEST_CARRY = 8_000_000


def read(files: Files) -> TextSource:
    """Read text files. Raises InvalidRequest, with the line."""
    parts = by_part(files, _SUFFIXES)
    every = [name for names in parts.values() for name in names]
    tokenised = all(name.lower().removesuffix(".gz").endswith(_TOKENS) for name in every)
    ends = _ARTICLE if tokenised else _PARAGRAPH
    splits = {part: TextSplit(partial(_blocks, files, names, ends)) for part, names in parts.items()}
    return TextSource(splits, [], tokenised, sum(map(files.size, every)))


def _blocks(files: Files, names: list[str], ends: re.Pattern[bytes]) -> Iterator[Block]:
    for name in names:
        empty = True
        with open_unpacked(files, name) as stream:
            for block in _documents(blocks(stream, name), ends):
                empty = empty and not block.data.strip()
                yield block
        if empty:
            raise bad_file(name, "is empty", 1)


def _documents(text: Iterator[bytes], ends: re.Pattern[bytes]) -> Iterator[Block]:
    """Yield the text in blocks, with the offsets where documents end.

    The last line and the blank lines before it are carried over, so that no end falls between two blocks.
    """
    carry, begun = b"", False
    for data in text:
        carry += data
        cut = len(carry[: carry.rfind(b"\n") + 1].rstrip())
        if cut == 0 and len(carry) > _LONGEST_CARRY:
            cut = len(carry)
        if cut:
            yield _block(carry[:cut], ends, begun)
            carry, begun = carry[cut:], True
    last = _block(carry, ends, begun)
    yield Block(last.data, [*(end for end in last.ends if end < len(carry)), len(carry)])


def _block(data: bytes, ends: re.Pattern[bytes], begun: bool) -> Block:
    """Return a block with the ends of its documents; blank lines before the first word end none."""
    blank = 0 if begun else len(data) - len(data.lstrip())
    return Block(data, [match.end() for match in ends.finditer(data) if match.end() > blank])
