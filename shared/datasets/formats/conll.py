"""CoNLL columns: a token and its tag on each line, a blank line between sentences.

The token is in the first column and the tag in the last. In CoNLL-U (ten columns, of which the first is a number) they
are FORM and UPOS; its ranges (`1-2`) and empty nodes (`1.1`) are left out. Columns are separated by tabs if the first
token's line has one, else by spaces. Lines of `-DOCSTART-` end a sentence; comments (`# …`) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from shared.datasets.errors import bad_file, printable
from shared.datasets.formats.parts import by_part, has_suffix, have_suffix
from shared.datasets.formats.utf8 import lines
from shared.datasets.ingest.build_text import TAG_TYPE, Block, TextSource, TextSplit, TokenTags
from shared.datasets.ingest.source_files import Files, open_unpacked
from shared.lazy_numpy import np

_SUFFIXES = (".conll", ".conllu", ".iob", ".iob2", ".bio", ".iobes", ".bioes")
#: Most tags of a set, and most tokens of a sentence. Too low: good files are refused. Too high: a file whose tag is not
#: in the last column, or that has no blank lines, is taken.
MAX_TAGS, MAX_SENTENCE = 10_000, 100_000
_UNIVERSAL_COLUMNS = 10
_SPACES, _WHITE = re.compile(r"[ \r]+"), re.compile(r"[ \t\r]")
_UNIVERSAL_ID = re.compile(r"[0-9]+([-.][0-9]+)?")
_DOCUMENT = "-DOCSTART-"
#: Stands for a space inside a token, which separates tokens in the stored text.
_NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    tag: str
    line: int


def recognizes(files: Files) -> bool:
    """Return whether all files are named as columns."""
    return have_suffix(files, _SUFFIXES)


def read(files: Files) -> TextSource:
    """Read tagged sentences. Raises InvalidRequest, with the line and the column."""
    named = any(has_suffix(name, _SUFFIXES) for name in files.names)
    parts = by_part(files, _SUFFIXES if named else ("",))
    number: dict[str, int] = {}
    found = {"train": _tags(files, parts["train"], number, learn=True)}
    _check(files, parts["train"][0], number, 2 if "test" in parts else len(found["train"].lengths))
    found |= {part: _tags(files, names, number, learn=False) for part, names in parts.items() if part != "train"}
    tags = sorted(number)
    place = np.array([tags.index(tag) for tag in number], TAG_TYPE)
    splits = {
        part: TextSplit(
            partial(_blocks, files, parts[part]), tags=TokenTags(place[found[part].ids], found[part].lengths)
        )
        for part in parts
    }
    size = sum(files.size(name) for names in parts.values() for name in names)
    return TextSource(splits, tokenised=True, size=size, tags=tags)


def _check(files: Files, first: str, number: dict[str, int], sentences: int) -> None:
    where = first if len(files.names) == 1 else files.label
    if len(number) < 2:
        raise bad_file(where, f"has only one tag ({printable(min(number))}); a tagger needs at least two")
    if sentences < 2:
        raise bad_file(where, "has only one sentence; put a blank line between sentences")


def _tags(files: Files, names: list[str], number: dict[str, int], *, learn: bool) -> TokenTags:
    """Return the tags of all tokens by their number. With `learn`, new tags get the next one; else they are refused."""
    ids: list[int] = []
    lengths: list[int] = []
    for name in names:
        layout, before = _layout(files, name), len(lengths)
        for sentence in _sentences(files, name, layout):
            for token in sentence:
                if token.tag not in number:
                    _check_new(token, name, layout, len(number), learn)
                    number[token.tag] = len(number)
            ids += [number[token.tag] for token in sentence]
            lengths.append(len(sentence))
        if len(lengths) == before:
            raise bad_file(name, "has no token, only ranges and empty nodes", layout.line)
    return TokenTags(np.array(ids, TAG_TYPE), np.array(lengths, np.int64))


def _check_new(token: _Token, name: str, layout: _Layout, known: int, learn: bool) -> None:
    column = layout.tag + 1
    if token.tag != printable(token.tag):
        raise bad_file(name, "has a tag that is too long or has unprintable characters", token.line, column)
    if not learn:
        raise bad_file(name, f"unknown tag {token.tag!r}: the training part does not have it", token.line, column)
    if known == MAX_TAGS:
        raise bad_file(name, f"has more than {MAX_TAGS:,} different tags; is this the tag?", token.line, column)


def _blocks(files: Files, names: list[str]) -> Iterator[Block]:
    for name in names:
        for sentence in _sentences(files, name, _layout(files, name)):
            data = " ".join(token.text for token in sentence).encode() + b"\n"
            yield Block(data, [len(data)])


# -- lines ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """The columns of a file, as the line of its first token has them; `token` and `tag` are places, from 0."""

    line: int
    count: int
    by_tabs: bool
    universal: bool
    token: int
    tag: int

    def columns(self, line: str) -> list[str]:
        """Return the columns of a line."""
        return _split(line, self.by_tabs)

    def is_comment(self, line: str, *, inside: bool) -> bool:
        """Return whether a line is a comment. The token `#` has as many columns as other tokens have.

        `inside`: a token of the sentence is before it.
        """
        if not line.startswith("#"):
            return False
        return self.universal or (not inside and len(self.columns(line)) != self.count)


def _split(line: str, by_tabs: bool) -> list[str]:
    return [column.strip(" ") for column in line.split("\t")] if by_tabs else _SPACES.split(line.strip(" "))


def _layout(files: Files, name: str) -> _Layout:
    first = None
    with open_unpacked(files, name) as stream:
        for number, line in _lines(stream, name):
            if _ends_sentence(line):
                continue
            first = first or (number, line)
            if not line.startswith("#"):  # a comment may have any number of columns
                return _layout_of(line, name, number)
    if first is None:
        raise bad_file(name, "is empty; every line holds a token and its tag", 1)
    return _layout_of(first[1], name, first[0])


def _layout_of(line: str, name: str, number: int) -> _Layout:
    by_tabs = "\t" in line
    columns = _split(line, by_tabs)
    if len(columns) < 2:
        raise bad_file(name, "has one column; a token and its tag are needed, with a space or tab between", number, 2)
    universal = by_tabs and len(columns) == _UNIVERSAL_COLUMNS and bool(_UNIVERSAL_ID.fullmatch(columns[0]))
    token, tag = (1, 3) if universal else (0, len(columns) - 1)
    return _Layout(number, len(columns), by_tabs, universal, token, tag)


def _sentences(files: Files, name: str, layout: _Layout) -> Iterator[list[_Token]]:
    """Yield the tokens of each sentence. Raises InvalidRequest, with the line and the column."""
    sentence: list[_Token] = []
    with open_unpacked(files, name) as stream:
        for number, line in _lines(stream, name):
            if _ends_sentence(line):
                if sentence:
                    yield sentence
                sentence = []
            elif not layout.is_comment(line, inside=bool(sentence)):
                if token := _token(line, layout, name, number):
                    sentence.append(token)
                if len(sentence) > MAX_SENTENCE:
                    problem = f"has a sentence of more than {MAX_SENTENCE:,} tokens; put a blank line between sentences"
                    raise bad_file(name, problem, number)
    if sentence:
        yield sentence


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines(stream, name), 1):
        yield number, line.rstrip("\r\n ")


def _ends_sentence(line: str) -> bool:
    return not line.strip(" \t\r") or line.startswith(_DOCUMENT)


def _token(line: str, layout: _Layout, name: str, number: int) -> _Token | None:
    """Return the token of a line; None for a range or an empty node of CoNLL-U."""
    columns = layout.columns(line)
    if len(columns) != layout.count:
        raise bad_file(name, _ragged(len(columns), layout), number, min(len(columns), layout.count) + 1)
    if layout.universal:
        if not _UNIVERSAL_ID.fullmatch(columns[0]):
            raise bad_file(name, f"is {printable(columns[0])!r}, but must be the number of a token", number, 1)
        if not columns[0].isdigit():
            return None
    for place in (layout.token, layout.tag):
        if not columns[place]:
            raise bad_file(name, "is empty", number, place + 1)
    return _Token(_WHITE.sub(_NO_BREAK, columns[layout.token]), columns[layout.tag], number)


def _ragged(count: int, layout: _Layout) -> str:
    columns, by = f"{count} column{'s' if count > 1 else ''}", "tabs" if layout.by_tabs else "spaces"
    return f"the line has {columns}, but line {layout.line} has {layout.count} (separated by {by})"
