"""`nightshift families`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from nightshift.cli import completion, payload
from nightshift.cli.options import AsJson, FamilyName, Framework, Preset, client
from nightshift.cli.registry import group, require
from nightshift.cli.render import output
from nightshift.cli.render.tables import Field, print_items

app = group("families")

FIELDS = {
    "family": Field("name"),
    "frameworks": Field(lambda item: ", ".join(item.get("frameworks") or []), 1),
    "package": Field(lambda item: item.get("package") or "-", 2),
    "resumes": Field(lambda item: item.get("promise") or "-", 3),
    "note": Field(lambda item: item.get("error") or ", ".join(item.get("presets") or [])),
}


@app.callback()
def list_families(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the model families and their presets. --json includes the JSON schemas of their settings."""
    if ctx.invoked_subcommand:
        return None
    return print_items(client(ctx).families(), FIELDS, "No families.", as_json=as_json)


@app.command("check")
def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of an installed family.")],
    framework: Annotated[str | None, typer.Option(help="Only in this framework; default: all.")] = None,
    to: Annotated[
        Path | None, typer.Option("--output", help="File of the report; default: NAME-conformance.json.")
    ] = None,
) -> None:
    """Run the conformance kit on a family of this machine; keep the report in a file and in the database."""
    require("families check", "testing")
    import_module("api.commands.conformance").check(ctx, "family", name, framework, to)


#: Field of the request that settings are of.
_MODEL = "model."


@app.command("summary")
def summary(
    ctx: typer.Context,
    family: FamilyName,
    preset: Preset = None,
    framework: Framework = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set any field of the model, e.g. filters=[8,16]. Repeatable.",
            autocompletion=completion.settings,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="What it would learn from, e.g. digits; default: a typical data set.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the layers of a model before it is trained: output shapes, parameters, size in float32."""
    body = payload.model(family, preset, framework)
    payload.assign(body, [one if one.startswith(_MODEL) else f"{_MODEL}{one}" for one in set_ or []])
    found = client(ctx).model_summary(body["model"], dataset)
    if as_json:
        output.print_json(found)
        return
    if found["error"]:
        typer.echo(found["error"])
        raise typer.Exit(1)
    from nightshift.families.summary import table

    typer.echo(table(found) + _supposed(found))


def _supposed(summary: dict[str, Any]) -> str:
    """Return a line on what the layers depend on beside the settings; empty if there is nothing."""
    facts = ", ".join(_amounts(summary["facts"]))
    of = f"data set {summary['dataset']}" if summary["dataset"] else "a typical data set"
    return f"\nof {of}: {facts}" if facts else ""


def _amounts(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield `classes 10` for each fact: the length of a list, the facts in an object."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _amounts(value)
        else:
            shown = len(value) if isinstance(value, list) else value
            yield f"{name} {f'{shown:,}' if isinstance(shown, int) else shown}"
