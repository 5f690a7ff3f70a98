"""`nightshift programs`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from nightshift.cli.options import AsJson, client
from nightshift.cli.registry import group, require
from nightshift.cli.render.tables import Field, print_items

app = group("programs")

FIELDS = {
    "program": Field("name"),
    "package": Field(lambda item: item.get("package") or "-", 1),
    "resumes": Field(lambda item: item.get("promise") or "-", 2),
    "note": Field(lambda item: item.get("error") or item["description"].partition("\n")[0]),
}


@app.callback()
def list_programs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the programs that jobs may run. --json includes the JSON schemas of their parameters."""
    if ctx.invoked_subcommand:
        return None
    empty = "No programs: install a package that has one, and name it in NIGHTSHIFT_PROGRAMS."
    return print_items(client(ctx).programs(), FIELDS, empty, as_json=as_json)


@app.command("check")
def check(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of an installed program.")],
    to: Annotated[
        Path | None, typer.Option("--output", help="File of the report; default: NAME-conformance.json.")
    ] = None,
) -> None:
    """Run the conformance kit on a program of this machine; keep the report in a file and in the database."""
    require("programs check", "testing")
    import_module("api.commands.conformance").check(ctx, "program", name, None, to)
