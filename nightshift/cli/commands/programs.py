"""`nightshift programs`."""

from __future__ import annotations

import typer

from nightshift.cli.options import AsJson, client
from nightshift.cli.render.tables import Field, print_items

app = typer.Typer(rich_markup_mode=None, add_completion=False)

FIELDS = {
    "program": Field("name"),
    "package": Field(lambda item: item.get("package") or "-", 1),
    "resumes": Field(lambda item: item.get("promise") or "-", 2),
    "note": Field(lambda item: item.get("error") or item["description"].partition("\n")[0]),
}


@app.command()
def programs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the programs that jobs may run. --json includes the JSON schemas of their parameters."""
    empty = "No programs: install a package that has one, and name it in NIGHTSHIFT_PROGRAMS."
    print_items(client(ctx).programs(), FIELDS, empty, as_json=as_json)
