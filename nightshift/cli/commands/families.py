"""`nightshift families`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from nightshift.cli.options import AsJson, client
from nightshift.cli.registry import group, require
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
