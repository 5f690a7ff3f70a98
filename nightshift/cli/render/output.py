"""Output of commands: JSON for programs, tables and plain lines for people; notes go to stderr.

A table drops its least important columns on a narrow terminal and none on a pipe. Rich is imported by the first output,
so that commands, their help and their completion start fast.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nightshift.metrics import label

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

STATE_STYLES = {
    "waiting": "dim",
    "queued": "yellow",
    "running": "cyan",
    "paused": "magenta",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "dim",
    "online": "green",
    "draining": "yellow",
    "not_listening": "red",
    "device_failed": "red",
    "disk_full": "red",
    "offline": "red",
}

#: Space between two columns of a table (characters).
GAP = 2
#: Width of output to a pipe (characters): enough for any row.
PIPE_WIDTH = 10_000


def console(*, stderr: bool = False) -> Console:
    """Return a new console, since `COLUMNS` and stdout may have changed."""
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def show(renderable: RenderableType, width: int | None = None) -> None:
    """Print to stdout, `width` characters wide (None: the terminal's width).

    On a pipe, rows have no trailing spaces.
    """
    out = console()
    if width is not None:
        out.width = width
    if out.is_terminal:
        return out.print(renderable)
    with out.capture() as captured:
        out.print(renderable)
    return print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_items(items: Sequence[Any]) -> None:
    """Print a collection as JSON, in the shape of one page of the API."""
    print_json({"items": list(items), "next_cursor": None})


def print_note(message: str) -> None:
    """Print a note to stderr."""
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True, highlight=False, soft_wrap=True).print(escape(message))


def state_text(state: str) -> Text:
    """Return a state in its color."""
    from rich.text import Text

    return Text(state, STATE_STYLES.get(state, ""))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    On a narrow terminal, columns with the highest `rank` are dropped first; rank 0 is never dropped. Before that,
    columns with a `least` width (characters) are cut to it; a cell that is a list loses whole words at its end.
    """

    title: str
    rank: int = 0
    right: bool = False
    least: int | None = None


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], empty: str, *, fit: bool = True) -> None:
    """Print a table, or the note `empty` if it has no rows. `fit`: drop columns to fit the terminal."""
    from rich.table import Table

    if not rows:
        print_note(empty)
        return
    width = console().width if fit else PIPE_WIDTH
    widths = _widths(columns, rows)
    kept = _kept(columns, widths, width)
    cut_widths = _cut_widths(columns, widths, kept, width)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for index in kept:
        column = columns[index]
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(_cell(row[index], cut_widths[index]) for index in kept))
    show(table, width)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> list[int]:
    return [max(len(column.title), *(len(_cell(row[i]).plain) for row in rows)) for i, column in enumerate(columns)]


def _kept(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return the indexes of the columns that fit."""
    least = [min(widths[i], column.least or widths[i]) + GAP for i, column in enumerate(columns)]
    kept = list(range(len(columns)))
    for index in sorted(kept, key=lambda i: -columns[i].rank):
        if sum(least[i] for i in kept) - GAP <= width or columns[index].rank == 0:
            break
        kept.remove(index)
    return kept


def _cut_widths(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int], width: int) -> list[int]:
    """Return the widths of the columns after cutting those that may be cut, from the last to the first."""
    cut_widths = list(widths)
    over = sum(widths[i] + GAP for i in kept) - GAP - width
    for index in reversed(kept):
        cut = max(0, min(over, widths[index] - (columns[index].least or widths[index])))
        cut_widths[index], over = cut_widths[index] - cut, over - cut
    return cut_widths


def _cell(value: Any, width: int | None = None) -> Text:
    """Return a cell, cut to `width` characters; a cut text ends with `…`."""
    from rich.text import Text

    if isinstance(value, Text):
        return value
    text = "  ".join(value) if isinstance(value, list) else "" if value is None else str(value)
    if width is None or len(text) <= width:
        return Text(text)
    if not isinstance(value, list):
        return Text(f"{text[: width - 1]}…")
    head = filled(value, width - 2)[0]
    return Text(f"{head} …" if len(head) <= width - 2 else f"{head[: width - 1]}…")


def print_facts(facts: Sequence[tuple[str, Any]]) -> None:
    """Print names and values, one per line, without None and empty values; a list is filled into lines."""
    from rich.table import Table

    width = console().width - max(len(name) for name, _ in facts) - 2
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        if value not in (None, "", []):
            grid.add_row(name, _cell("\n".join(filled(value, width)) if isinstance(value, list) else value))
    show(grid)


# -- words for values -----------------------------------------------------------------------------


def number(value: float | int | None) -> str:
    """Return a number as text: integers in full, others with four significant digits or more."""
    if value is None:
        return ""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15 and abs(value) >= 1000):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.2e}"


def size(count: int | None) -> str:
    """Return a number of bytes as text, such as `12.3 MB`."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def duration(seconds: float | None) -> str:
    """Return seconds as `1:05`, `2:01:05` or `3d04h`."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours >= 48:
        return f"{hours // 24}d{hours % 24:02}h"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def owner(item: Mapping[str, Any]) -> str:
    """Return "you", or the name of the owner's key; empty without an owner."""
    return "you" if item.get("yours") else str(item.get("owner") or "")


def age(at: str | None, now: datetime | None = None) -> str:
    """Return the age of a time of the API: `42s`, `7m`, `3h`, `12d`."""
    if not at:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds()
    for unit, length, most in (("s", 1, 90), ("m", 60, 90), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{max(0, int(seconds // length))}{unit}"
    return f"{int(seconds // 86_400)}d"


def between(start: str | None, end: str | None) -> str:
    """Return the duration between two times of the API; without `end`, until now."""
    if not start:
        return ""
    return duration(seconds_between(start, end))


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds between two times of the API; without `end`, until now."""
    if not start:
        return None
    until = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return (until - datetime.fromisoformat(start)).total_seconds()


def log_line(at: str | None, entry: Mapping[str, Any]) -> str:
    """Return a log entry as `02:00:01.250 info    message`."""
    return f"{(at or '')[11:23]} {entry.get('level', ''):<7} {printable(str(entry.get('message', '')))}"


def printable(text: str) -> str:
    """Return the text without control characters: the output of a job is not trusted."""
    return "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text.rstrip("\n")
    )


def metric_facts(metrics: dict[str, Any]) -> list[str]:
    """Return the metrics of a result or a version as `name value` texts."""
    return [f"{label(name)} {number(value)}" for name, value in metrics.items() if isinstance(value, int | float)]


def tag_texts(item: Any) -> list[str]:
    """Return the tags of a job, a version or a webhook as `name=value` texts."""
    return [f"{name}={value}" for name, value in (item.get("tags") or {}).items()]


def filled(facts: Sequence[str], width: int) -> list[str]:
    """Return the facts side by side on as few lines as possible; no fact is split."""
    lines: list[str] = []
    for fact in filter(None, facts):
        if lines and len(lines[-1]) + 2 + len(fact) <= width:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return lines
