"""Tables whose columns a person chooses: `-o wide`, `--columns`, `--sort`, for every list that offers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from nightshift.errors import InvalidRequest


class Format(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


@dataclass(frozen=True)
class Field:
    """What a column shows of an item. `rank` and `least` are those of `output.Column`; `key` is what it sorts by, where
    that is not what it shows; only a wide table has one that is not `usual`."""

    show: Callable[[Any], Any]
    rank: int = 0
    right: bool = False
    least: int | None = None
    key: Callable[[Any], Any] | None = None
    usual: bool = True


#: By the name that people give, which is also the title.
Fields = Mapping[str, Field]
#: A name that is none of `Fields`, and the items -> its field, if any of them has it.
Other = Callable[[str, Sequence[Any]], Field | None]

FormatOption = Annotated[
    Format, typer.Option("--output", "-o", help="table fits the terminal, wide has every column, json is --json.")
]


def _nothing_else(name: str, items: Sequence[Any]) -> Field | None:
    return None


def columns_option(fields: Fields, more: str = "") -> Any:
    """The option `--columns` of a list with these fields."""
    text = f"Only these, in this order, at full width: {', '.join(fields)}{more}."
    return typer.Option("--columns", metavar="A,B,…", help=text, autocompletion=_completer(fields, ",", ()))


def sort_option(fields: Fields, more: str = "") -> Any:
    """The option `--sort` of a list with these fields."""
    text = f"By a column{more}; :desc turns it round. What has no value comes last."
    completer = _completer(fields, "", (":asc", ":desc"))
    return typer.Option("--sort", metavar="FIELD[:asc|desc]", help=text, autocompletion=completer)


def _completer(fields: Fields, separator: str, endings: Sequence[str]) -> Callable[[str], list[str]]:
    """Offers names for the word behind the last separator."""

    def complete(incomplete: str) -> list[str]:
        before, found, word = incomplete.rpartition(separator) if separator else ("", "", incomplete)
        offered = [name + ending for name in fields for ending in ("", *endings)]
        return [f"{before}{found}{name}" for name in offered if name.startswith(word)]

    return complete


def sorted_by(text: str, items: Sequence[Any], fields: Fields, other: Other = _nothing_else) -> list[Any]:
    """By `FIELD`, `FIELD:asc` or `FIELD:desc`; items without a value come last. Raises InvalidRequest."""
    name, _, direction = text.partition(":")
    if direction not in ("", "asc", "desc"):
        raise InvalidRequest(f"--sort {text!r}: after the field write :asc or :desc.")
    field = _field("--sort", name, items, fields, other)
    keyed = [(_comparable((field.key or field.show)(item)), item) for item in items]
    there = sorted((pair for pair in keyed if pair[0]), key=lambda pair: pair[0], reverse=direction == "desc")
    return [item for _, item in there] + [item for key, item in keyed if not key]


def _comparable(value: Any) -> tuple[Any, ...]:
    """Numbers before texts; nothing for no value."""
    if value is None or value == "":
        return ()
    if isinstance(value, tuple):
        return tuple(part for one in value for part in _comparable(one))
    return (0, float(value)) if isinstance(value, int | float) else (1, str(value))


def _field(option: str, name: str, items: Sequence[Any], fields: Fields, other: Other) -> Field:
    found = fields.get(name.lower()) or other(name, items)
    if found is None:
        also = "" if other is _nothing_else else ", or a result or setting that one of them has"
        raise InvalidRequest(f"{option}: there is no {name!r}; there are {', '.join(fields)}{also}.")
    return found


def print_items(
    items: Sequence[Any],
    fields: Fields,
    empty: str,
    *,
    columns: str | None,
    wide: bool,
    other: Other = _nothing_else,
) -> None:
    """The items in the columns that were asked for, else in those that fit the terminal. Raises InvalidRequest."""
    from nightshift.cli.render import output

    chosen = {name: field for name, field in fields.items() if field.usual or wide}
    if columns is not None:
        names = [name.strip() for name in columns.split(",") if name.strip()]
        chosen = {name: _field("--columns", name, items, fields, other) for name in names}
    heads = [output.Column(name.upper(), one.rank, one.right, one.least) for name, one in chosen.items()]
    rows = [[one.show(item) for one in chosen.values()] for item in items]
    output.print_table(heads, rows, empty, fit=columns is None and not wide)
