"""`nightshift models`: commands for registered models, their versions and aliases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from nightshift.cli import completion
from nightshift.cli.options import AsJson, client
from nightshift.cli.registry import group
from nightshift.cli.render import output, tables
from nightshift.errors import InvalidRequest

app = group("models")


class ExportFormat(StrEnum):
    """Formats of `models export`."""

    ONNX = "onnx"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", autocompletion=completion.models)]
Version = Annotated[
    str,
    typer.Argument(metavar="NAME@VERSION", help="A version, e.g. digits@3.", autocompletion=completion.versions),
]
#: A model or a version of it, by default the champion.
VersionRef = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@VERSION]",
        help="A model or a version; default: the champion.",
        autocompletion=completion.versions,
    ),
]
Alias = Annotated[str, typer.Option(help="The alias to move.")]
Reason = Annotated[str | None, typer.Option(help="The reason, kept in the history.")]


def _champion(item: Any) -> int | None:
    return (item.get("champion") or {}).get("version")


def _metrics(owner: Any) -> list[str]:
    """Return the metrics of a version, those of the test part first, so that a narrow terminal shows them."""
    found = (owner or {}).get("metrics") or {}
    return output.metric_facts(dict(sorted(found.items(), key=lambda item: not item[0].startswith("test_"))))


def _metric(name: str, items: Sequence[Any]) -> tables.Field | None:
    """Return the column of a metric, or None if no champion has it."""

    def value(item: Any) -> Any:
        return ((item.get("champion") or {}).get("metrics") or {}).get(name)

    if items and all(value(item) is None for item in items):
        return None
    return tables.Field(lambda item: output.number(value(item)), right=True, key=value)


FIELDS = {
    "name": tables.Field("name"),
    "champion": tables.Field(lambda item: f"@{number}" if (number := _champion(item)) else "", 1, True, key=_champion),
    "latest": tables.Field(
        lambda item: f"@{item['latest_version']}", 3, right=True, key=lambda item: item["latest_version"]
    ),
    "family": tables.Field("family", 4),
    "owner": tables.Field(output.owner, usual=False),
    "metrics": tables.Field(lambda item: _metrics(item.get("champion")), 2, least=28),
    "framework": tables.Field("framework", usual=False),
    "updated": tables.Field("updated_at", usual=False),
}
HISTORY_FIELDS = {
    "at": tables.Field("at"),
    "change": tables.Field("change"),
    "alias": tables.Field("alias"),
    "from": tables.Field("from_version", right=True),
    "to": tables.Field("to_version", right=True),
    "who": tables.Field("who", 1),
    "why": tables.Field("why", 2),
}
MORE = ", or any metric of the champions, such as test_accuracy"


@app.callback()
def list_models(
    ctx: typer.Context,
    sort: Annotated[str | None, tables.sort_option(FIELDS, MORE)] = None,
    columns: Annotated[str | None, tables.columns_option(FIELDS, MORE)] = None,
    format: tables.FormatOption = tables.Format.TABLE,
    as_json: AsJson = False,
) -> None:
    """List the models."""
    if ctx.invoked_subcommand:
        return None
    found = client(ctx).models()
    if sort:
        found = tables.sorted_by(sort, found, FIELDS, _metric)
    as_json, wide = as_json or format is tables.Format.JSON, format is tables.Format.WIDE
    empty = "No models. Submit a job with --register-as NAME to register one."
    return tables.print_items(found, FIELDS, empty, as_json=as_json, columns=columns, wide=wide, other=_metric)


@app.command("show")
def show_model(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show the versions and aliases of a model."""
    answer = client(ctx).model(name)
    if as_json:
        return output.print_json(answer)
    if answer.get("description"):
        print(f"{answer['description']}\n")
    aliases = answer.get("aliases") or {}

    def aliases_of(version: Any) -> str:
        return " ".join(alias for alias, number in aliases.items() if number == version["version"])

    fields = {
        "version": tables.Field(lambda version: f"{name}@{version['version']}"),
        "aliases": tables.Field(aliases_of, 1),
        "job": tables.Field("job_id", 4),
        "data set": tables.Field("dataset", 5),
        "age": tables.Field(lambda version: output.age(version.get("created_at")), 3, right=True),
        "metrics": tables.Field(_metrics, 2, least=28),
    }
    return tables.print_items(answer.get("versions") or [], fields, f"{name} has no versions.")


def split_version(text: str, noun: str = "model") -> tuple[str, int]:
    """Return the name and the number of `digits@3`. Raises `InvalidRequest`."""
    found = re.fullmatch(r"(.+)@([0-9]{1,9})", text)
    if found is None:
        raise InvalidRequest(f"{text!r} is not a {noun} version; write it as NAME@3.")
    return found[1], int(found[2])


Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Set a tag. Repeatable.")]


@app.command("register")
def register(
    ctx: typer.Context,
    name: Name,
    job: Annotated[str, typer.Argument(help="A succeeded job that produced a model.")],
    description: Annotated[str | None, typer.Option(help="A description of the version.")] = None,
    tag: Tags = None,
) -> None:
    """Register the model of a succeeded job as the next version of NAME."""
    shown = client(ctx).register_model(name, job, description=description, tags=_tags(tag))
    print(f"{name}@{shown['version']}")


@app.command("describe")
def describe(
    ctx: typer.Context,
    ref: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]", help="A model or a version.", autocompletion=completion.versions)
    ],
    text: Annotated[str | None, typer.Argument(help="The description; '' removes it. Default: unchanged.")] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag", metavar="NAME=VALUE", help="Set a tag of a version; without =VALUE, remove it. Repeatable."
        ),
    ] = None,
) -> None:
    """Describe a model or a version, e.g. `models describe digits@3 "more augmentation" --tag checked=yes`."""
    if text is None and not tag:
        raise InvalidRequest("Nothing to change: give a text, or --tag NAME=VALUE.")
    if "@" not in ref:
        if tag:
            raise InvalidRequest(f"Only versions have tags; name one, such as {ref}@3.")
        client(ctx).describe_model(ref, text)
    else:
        name, number = split_version(ref)
        changes: dict[str, Any] = {} if text is None else {"description": text}
        if tag:
            changes["tags"] = {
                key: value if equals else None for key, equals, value in (one.partition("=") for one in tag)
            }
        client(ctx).change_version(name, number, **changes)
    print(f"{ref} described")


def _tags(given: list[str] | None) -> dict[str, str]:
    """Return the tags of `NAME=VALUE` texts. Raises `InvalidRequest`."""
    parts = [one.partition("=") for one in given or []]
    wrong = next((key for key, equals, value in parts if not (key and value)), None)
    if wrong is not None:
        raise InvalidRequest(f"{wrong!r} is not a tag; write it as NAME=VALUE.")
    return {key: value for key, _, value in parts}


@app.command("download")
def download(
    ctx: typer.Context,
    ref: VersionRef,
    to: Annotated[str | None, typer.Option(help="The file to write; default: NAME-VERSION.zip.")] = None,
) -> None:
    """Download the files of a version (weights, config, tokenizer) as a zip."""
    print(client(ctx).download_model(ref, to or f"{ref.replace('@', '-')}.zip"))


@app.command("export")
def export(
    ctx: typer.Context,
    ref: VersionRef,
    format: Annotated[ExportFormat, typer.Option(help="The format of the file.")] = ExportFormat.ONNX,
    to: Annotated[str | None, typer.Option(help="The file to write; default: NAME-VERSION.FORMAT.")] = None,
) -> None:
    """Write the network of a version with its weights as one file for other runtimes, e.g. `models export digits@3`."""
    print(client(ctx).export_model(ref, to or f"{ref.replace('@', '-')}.{format.value}", format.value))


@app.command("promote")
def promote(ctx: typer.Context, version: Version, alias: Alias = "champion", reason: Reason = None) -> None:
    """Point an alias at a version, e.g. `models promote digits@3`. The default alias is champion."""
    name, number = split_version(version)
    shown = client(ctx).promote(name, number, alias, reason)
    print(f"{name}@{alias} -> {shown['aliases'][alias]}")


@app.command("rollback")
def rollback(ctx: typer.Context, name: Name, alias: Alias = "champion", reason: Reason = None) -> None:
    """Point an alias back at its previous version. Repeat it to go back further."""
    shown = client(ctx).rollback(name, alias, reason)
    print(f"{name}@{alias} -> {shown['aliases'][alias]}")


@app.command("compare")
def compare(
    ctx: typer.Context,
    refs: Annotated[list[str], typer.Argument(metavar="NAME@A NAME@B", help="Two versions or aliases; or NAME A B.")],
    on: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Evaluate both on the test part of this data set now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the metrics of two versions, e.g. `models compare digits@champion digits@4 --on digits@1`."""
    from nightshift.cli import model_comparison
    from nightshift.metrics import label

    first, second = model_comparison.pair(refs)
    if on is not None:
        found = model_comparison.measured(client(ctx), first, second, on)
    else:
        found = model_comparison.registered(client(ctx), first, second)
    if as_json:
        return output.print_json(found)
    columns = [output.Column("METRIC"), *(output.Column(ref, right=True) for ref in found["titles"])]
    rows = [
        [label(metric), *(_number(pair[part]) for part in ("a", "b", "difference"))]
        for metric, pair in found["metrics"].items()
    ]
    output.print_table([*columns, output.Column("DIFFERENCE", 1, right=True)], rows, "Neither version has metrics.")
    if found.get("on"):
        output.print_note(f"Measured on the test part of {found['on']} by the jobs {' and '.join(found['jobs'])}.")
    elif not found["same_dataset"]:
        sets = " and ".join(str(found[side]["dataset"]) for side in ("a", "b"))
        output.print_note(
            f"Measured on different data sets ({sets}), so the differences mean little. "
            "Use --on DATASET to evaluate both on the same one."
        )
    return None


def _number(value: Any) -> str:
    return output.number(value) if isinstance(value, int | float) else "" if value is None else str(value)


@app.command("history")
def history(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """List the changes of a model's aliases: time, versions, author and reason."""
    found = client(ctx).model_history(name)
    tables.print_items(found, HISTORY_FIELDS, "No alias was changed yet.", as_json=as_json)


@app.command("delete")
def delete(ctx: typer.Context, version: Version) -> None:
    """Delete a version. Fails while an alias or an unfinished job uses it."""
    name, number = split_version(version)
    client(ctx).delete_version(name, number)
    print(f"{version} deleted")
