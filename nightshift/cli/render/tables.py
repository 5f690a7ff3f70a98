"""Lists of items: columns by name, `-o wide`, `--columns` and `--sort`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from nightshift.cli.render import output
from nightshift.errors import InvalidRequest


class Format(StrEnum):
    """Values of `--output`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


@dataclass(frozen=True)
class Field:
    """A column of a list. `content` is the name of the item's field, or a function of the item.

    `key` returns the sort key, if that differs. `rank` and `least` are those of `output.Column`. Columns that are not
    `usual` are shown by `-o wide` only.
    """

    content: str | Callable[[Any], Any]
    rank: int = 0
    right: bool = False
    least: int | None = None
    key: Callable[[Any], Any] | None = None
    usual: bool = True

    def show(self, item: Any) -> Any:
        """Return the content of the column for an item."""
        return item.get(self.content) if isinstance(self.content, str) else self.content(item)


#: Columns by name, which is also the title.
Fields = Mapping[str, Field]
#: Return the column of a name that is not in `Fields`, if one of the items has it.
Other = Callable[[str, Sequence[Any]], Field | None]

FormatOption = Annotated[
    Format, typer.Option("--output", "-o", help="table (fits the terminal), wide (all columns) or json (as --json).")
]


def _nothing_else(name: str, items: Sequence[Any]) -> Field | None:
    return None


def columns_option(fields: Fields, more: str = "") -> Any:
    """Return the option `--columns` of a list with these fields."""
    text = f"Columns, in this order and at full width: {', '.join(fields)}{more}."
    return typer.Option("--columns", metavar="A,B,…", help=text, autocompletion=_completer(fields, ",", ()))


def sort_option(fields: Fields, more: str = "") -> Any:
    """Return the option `--sort` of a list with these fields."""
    text = f"Sort by a column{more}; :desc reverses the order. Rows without a value come last."
    completer = _completer(fields, "", (":asc", ":desc"))
    return typer.Option("--sort", metavar="FIELD[:asc|desc]", help=text, autocompletion=completer)


def _completer(fields: Fields, separator: str, endings: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a completer of names for the word after the last separator."""

    def complete(incomplete: str) -> list[str]:
        before, found, word = incomplete.rpartition(separator) if separator else ("", "", incomplete)
        offered = [name + ending for name in fields for ending in ("", *endings)]
        return [f"{before}{found}{name}" for name in offered if name.startswith(word)]

    return complete


def sorted_by(text: str, items: Sequence[Any], fields: Fields, other: Other = _nothing_else) -> list[Any]:
    """Sort by `FIELD`, `FIELD:asc` or `FIELD:desc`; items without a value come last. Raises `InvalidRequest`."""
    name, _, direction = text.partition(":")
    if direction not in ("", "asc", "desc"):
        raise InvalidRequest(f"--sort {text!r}: write :asc or :desc after the field.")
    field = _field("--sort", name, items, fields, other)
    keyed = [(_comparable((field.key or field.show)(item)), item) for item in items]
    valued = sorted((pair for pair in keyed if pair[0]), key=lambda pair: pair[0], reverse=direction == "desc")
    return [item for _, item in valued] + [item for key, item in keyed if not key]


def _comparable(value: Any) -> tuple[Any, ...]:
    """Return a sort key: numbers before texts, and an empty one for no value."""
    if value is None or value == "":
        return ()
    if isinstance(value, tuple):
        return tuple(part for one in value for part in _comparable(one))
    return (0, float(value)) if isinstance(value, int | float) else (1, str(value))


def _field(option: str, name: str, items: Sequence[Any], fields: Fields, other: Other) -> Field:
    found = fields.get(name.lower()) or other(name, items)
    if found is None:
        also = "" if other is _nothing_else else ", or a metric or setting that one of them has"
        raise InvalidRequest(f"{option}: there is no field {name!r}; there are {', '.join(fields)}{also}.")
    return found


def print_items(
    items: Sequence[Any],
    fields: Fields,
    empty: str,
    *,
    as_json: bool = False,
    columns: str | None = None,
    wide: bool = False,
    other: Other = _nothing_else,
) -> None:
    """Print the items as JSON, in the requested columns, or in those that fit. Raises `InvalidRequest`.

    `empty` is the note that is printed instead of a table without rows.
    """
    if as_json:
        return output.print_items(items)
    chosen = {name: field for name, field in fields.items() if field.usual or wide}
    if columns is not None:
        names = [name.strip() for name in columns.split(",") if name.strip()]
        chosen = {name: _field("--columns", name, items, fields, other) for name in names}
    heads = [output.Column(name.upper(), one.rank, one.right, one.least) for name, one in chosen.items()]
    rows = [[one.show(item) for one in chosen.values()] for item in items]
    return output.print_table(heads, rows, empty, fit=columns is None and not wide)
