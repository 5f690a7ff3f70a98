"""`nightshift families`."""

from __future__ import annotations

import typer

from nightshift.cli.options import AsJson, client
from nightshift.cli.render import output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def families(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the model families and their presets. --json includes the JSON schemas of their settings."""
    found = client(ctx).families()
    if as_json:
        return output.print_items(found)
    columns = [output.Column("FAMILY"), output.Column("FRAMEWORKS", 1), output.Column("PRESETS")]
    rows = [
        [
            item.get("name") or item.get("family"),
            ", ".join(item.get("frameworks") or []),
            ", ".join(item.get("presets") or []),
        ]
        for item in found
    ]
    output.print_table(columns, rows, "No families.")
    return None
