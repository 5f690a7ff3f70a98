"""`nightshift datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightshift.cli import completion
from nightshift.cli.commands.models import split_version
from nightshift.cli.options import AsJson, client
from nightshift.cli.registry import group
from nightshift.cli.render import output
from nightshift.cli.render.tables import Field, print_items
from nightshift.names import FILES, FORMATS, TABLE, TEXT, either

if TYPE_CHECKING:
    from nightshift.client.resources import Dataset

app = group("datasets")


@app.callback()
def list_datasets(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets."""
    if ctx.invoked_subcommand:
        return None
    empty = "No data sets. Add one with `nightshift datasets add NAME PATH`."
    return print_items(client(ctx).datasets(), FIELDS, empty, as_json=as_json)


def _rows(part: str) -> Field:
    """Return the column of the number of rows in a part."""

    def shown(item: Any) -> str:
        count = ((item.get("splits") or {}).get(part) or {}).get("count")
        return "" if count is None else f"{count:,}"

    return Field(shown, 3, right=True)


def _whole(item: dict[str, Any]) -> str:
    """Return the rows or files of a set that has no parts."""
    kind, parts = item.get("kind"), item.get("splits") or {}
    return f"{sum(part['count'] for part in parts.values()):,}" if kind in (FILES, TABLE) else ""


#: Words for the availability of a built-in data set that no job has used yet.
_AVAILABILITY = {"needs_download": "needs download", "unavailable": "no files, downloads are off"}


def _owner(item: dict[str, Any]) -> str:
    if not item.get("builtin"):
        return output.owner(item)
    return ", ".join(filter(None, ["built in", _AVAILABILITY.get(item.get("availability", ""))]))


FIELDS = {
    "name": Field("name"),
    "kind": Field("kind", 1),
    "version": Field("version", 2, right=True),
    **{part: _rows(part) for part in ("train", "test")},
    "rows": Field(_whole, 3, right=True),
    "classes": Field(lambda item: len(item.get("classes") or []) or "", 4, right=True),
    "size": Field(lambda item: output.size(item.get("size_bytes")), 5, right=True),
    "owner": Field(_owner, 6),
}


@app.command("add")
def add_dataset(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the data set; an existing one gets a new version.")],
    path: Annotated[str, typer.Argument(help="A local file or folder. A folder is uploaded as a zip.")],
    kind: Annotated[
        str | None,
        typer.Option(
            help="image, text, files or table; default: detect it. Needed for files, and for a table from a CSV."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help=f"Of images and text: {either(FORMATS)}; default: detect it from the files."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register images, texts, a table (CSV, Parquet) or any files as a data set."""
    _print_version(client(ctx).add_dataset(name, path, format, kind=kind), as_json)


def _print_version(added: Dataset, as_json: bool) -> None:
    if as_json:
        return output.print_json(added)
    print(f"{added['name']}@{added['version']}")
    if added.get("kind") == TEXT:
        output.print_note(_what_text(added))
    return None


#: Names of classes or tags in the note after adding text.
_NAMED = 8


def _what_text(added: Dataset) -> str:
    """Return what the documents of a text were taken for, which its folders or suffix may have decided."""
    for what, names in (("sentences with {} tags", added.get("tags")), ("documents of {} classes", added["classes"])):
        if names:
            more = ", …" if len(names) > _NAMED else ""
            return f"{what.format(f'{len(names):,}')}: {', '.join(names[:_NAMED])}{more}"
    return "plain text, without labels"


@app.command("append")
def append_to_dataset(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The data set that gets a new version.")],
    path: Annotated[str, typer.Argument(help="A local file or folder. A folder is uploaded as a zip.")],
    format: Annotated[str | None, typer.Option(help="As in `add`; default: detect it from the files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add images or texts to a data set, as a new version. They are training data unless the files have a test part."""
    _print_version(client(ctx).append_to_dataset(name, path, format), as_json)


@app.command("delete")
def delete_dataset_version(
    ctx: typer.Context,
    version: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="The version, e.g. pets@3.")],
) -> None:
    """Delete a version of a data set. Fails while an unfinished job or a schedule needs it."""
    name, number = split_version(version, "data set")
    client(ctx).delete_dataset_version(name, number)
    print(f"{version} deleted")


@app.command("show")
def show_dataset(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the data set.", autocompletion=completion.datasets)],
    sample: Annotated[
        str | None,
        typer.Option(help="Write a sample to this file: a PNG of images, the first texts, or the first rows as CSV."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the sizes, classes and versions of a data set."""
    answer = client(ctx).dataset(name)
    if sample is not None:
        Path(sample).write_bytes(client(ctx).dataset_sample(name))
        output.print_note(f"wrote {sample}")
    if as_json:
        return output.print_json(answer)
    splits = answer.get("splits") or {}
    counts = {part: {k: value for k, value in split.items() if k not in _HISTOGRAMS} for part, split in splits.items()}
    shown = {name: value for name, value in answer.items() if name not in ("yours", "may_change", "preview")}
    output.print_facts(_flat({**shown, "owner": output.owner(answer) or None, "splits": counts}))
    _print_preview(answer.get("preview") or {})
    for name, (one, several) in _HISTOGRAMS.items():
        _print_histogram({part: split[name] for part, split in splits.items() if name in split}, one, several)
    return None


def _print_preview(preview: dict[str, Any]) -> None:
    """Print the columns of a table, or the first files."""
    if columns := preview.get("columns"):
        print()
        heads = [output.Column(head, place, right=head in _RIGHT) for place, head in enumerate(_COLUMN_HEADS)]
        output.print_table(heads, [_column_row(column) for column in columns], "")
        if preview["column_count"] > len(columns):
            output.print_note(f"… and {preview['column_count'] - len(columns):,} more columns")
    if lines := _report_lines(preview):
        print()
        output.print_facts(lines)
    if files := preview.get("files"):
        print()
        rows = [[file["path"], output.size(file["size_bytes"])] for file in files]
        output.print_table([output.Column("FILE"), output.Column("SIZE", 1, right=True)], rows, "")


def _report_lines(preview: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what should be cleaned in a table; a version that an older server registered has no report."""
    report = preview.get("report")
    if report is None:
        return []
    twice = report["duplicates"]
    of = {column["name"]: column for column in preview["columns"]}
    ranges = [_outliers(name, of[name]["outliers"]) for name in report["with_outliers"]]
    not_numbers = [_not_numbers(name, of[name]["not_numbers"]) for name in report["not_numbers"]]
    return [
        ("missing values", f"{report['missing']:,}{_in(report['with_missing'])}"),
        ("duplicate rows", "not compared" if twice is None else f"{twice['count']:,} of {twice['of']:,}"),
        ("empty columns", _listed(report["empty"])),
        ("constant columns", _listed(report["constant"])),
        ("outliers", f"{report['outliers']:,}" + (f": {_listed(ranges, '; ')}" if ranges else "")),
        ("nearly numbers", _listed(not_numbers, "; ")),
    ]


def _in(names: list[str]) -> str:
    return f" in {_listed(names)}" if names else ""


def _outliers(name: str, found: dict[str, Any]) -> str:
    return f"{name} {found['count']:,} outside {found['low']:.4g} … {found['high']:.4g}"


def _not_numbers(name: str, found: dict[str, Any]) -> str:
    where = f"row {found['row']:,}" if found["line"] is None else f"line {found['line']:,}"
    return f"{name} is text: {where} has {found['value']!r} ({found['count']:,} of {found['of']:,} are no numbers)"


def _listed(parts: list[str], between: str = ", ") -> str:
    more = f"{between}and {len(parts) - _MOST_NAMED:,} more" if len(parts) > _MOST_NAMED else ""
    return between.join(parts[:_MOST_NAMED]) + more


#: Columns that are named in a line of the report.
_MOST_NAMED = 10
_COLUMN_HEADS = ("COLUMN", "TYPE", "NULLS", "DISTINCT", "MIN", "MAX", "MEAN", "MOST FREQUENT")
_RIGHT = ("NULLS", "DISTINCT", "MIN", "MAX", "MEAN")


def _column_row(column: dict[str, Any]) -> list[str]:
    distinct = _words(column["distinct"]) or ""
    top = ", ".join(f"{_short(value['value'])} ({value['count']:,})" for value in column["top"] or [])
    numbers = [_short(column[name]) for name in ("min", "max", "mean")]
    more = f"over {distinct}" if column["distinct_is_capped"] else distinct
    return [column["name"], column["type"], f"{column['nulls']:,}", more, *numbers, top]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)[:40]


#: Largest number of classes in a histogram, and the length of its longest bar (characters).
MOST_CLASSES, BAR = 50, 30


#: Histograms of a split, with the words for one of their names and for several.
_HISTOGRAMS = {"classes": ("CLASS", "classes"), "tags": ("TAG", "tags")}


def _print_histogram(classes: dict[str, dict[str, int]], one: str, several: str) -> None:
    """Print the number of rows of each class (tokens of each tag) in every split; the bar is of the training split."""
    if not classes:
        return
    most = max(max(counts.values(), default=0) for counts in classes.values()) or 1
    names = list(classes["train"])
    columns = [output.Column(one), *(output.Column(part.upper(), 1, right=True) for part in classes)]
    rows = [
        [name, *(f"{counts[name]:,}" for counts in classes.values()), "█" * round(BAR * classes["train"][name] / most)]
        for name in names[:MOST_CLASSES]
    ]
    print()
    output.print_table([*columns, output.Column("", 2)], rows, "")
    if len(names) > MOST_CLASSES:
        output.print_note(f"… and {len(names) - MOST_CLASSES:,} more {several}; --json lists all")


def _flat(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the values as text: nested ones as `a 1  b 2`."""
    return [(name.replace("_", " "), _words(value)) for name, value in facts.items()]


def _words(value: Any) -> str | None:
    if isinstance(value, dict):
        return "  ".join(f"{name} {_words(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_words(item) or "" for item in value)
    return None if value is None else f"{value:,}" if type(value) is int else str(value)
