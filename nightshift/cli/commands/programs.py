"""`nightshift programs`."""

from __future__ import annotations

import typer

from nightshift.cli.options import AsJson, client
from nightshift.cli.render import output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def programs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the programs that jobs may run. --json includes the JSON schemas of their parameters."""
    found = client(ctx).programs()
    if as_json:
        return output.print_items(found)
    columns = [
        output.Column("PROGRAM"),
        output.Column("PACKAGE", 1),
        output.Column("RESUMES", 2),
        output.Column("NOTE"),
    ]
    rows = [
        [item.name, item.package or "-", item.promise or "-", item.error or item.description.partition("\n")[0]]
        for item in found
    ]
    empty = "No programs: install a package that has one, and name it in NIGHTSHIFT_PROGRAMS."
    output.print_table(columns, rows, empty)
    return None
