"""`nightshift families`."""

from __future__ import annotations

import typer

from nightshift.cli.options import AsJson, client
from nightshift.cli.render.tables import Field, print_items

app = typer.Typer(rich_markup_mode=None, add_completion=False)

FIELDS = {
    "family": Field("name"),
    "frameworks": Field(lambda item: ", ".join(item.get("frameworks") or []), 1),
    "package": Field(lambda item: item.get("package") or "-", 2),
    "note": Field(lambda item: item.get("error") or ", ".join(item.get("presets") or [])),
}


@app.command()
def families(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the model families and their presets. --json includes the JSON schemas of their settings."""
    print_items(client(ctx).families(), FIELDS, "No families.", as_json=as_json)
