"""`nightshift workers`."""

from __future__ import annotations

import typer

from nightshift.cli.options import AsJson, client
from nightshift.cli.render import output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def workers(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the workers, their devices and jobs."""
    found = client(ctx).workers()
    if as_json:
        return output.print_items(found)
    columns = [output.Column("WORKER"), output.Column("STATE"), output.Column("JOB", 1), output.Column("DEVICE", 2)]
    columns += [
        output.Column("MEMORY", 4, right=True),
        output.Column("FRAMEWORKS", 5),
        output.Column("HEARTBEAT", 3, right=True),
    ]
    rows = [
        [
            item.get("name"),
            output.state_text(str(item.get("state"))),
            item.get("job_id"),
            item.get("device_name") or item.get("device"),
            output.size(item.get("memory_bytes")),
            ", ".join(item.get("frameworks") or []),
            output.age(item.get("heartbeat_at")),
        ]
        for item in found
    ]
    output.print_table(
        columns, rows, "No workers. Start one with `nightshift up`, or with `nightshift worker` on this host."
    )
    return None
