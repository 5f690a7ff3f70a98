"""`nightshift workers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from nightshift.cli.options import AsJson, client
from nightshift.cli.render import output
from nightshift.cli.render.tables import Field, print_items

app = typer.Typer(rich_markup_mode=None, add_completion=False)


def _problem(worker: Mapping[str, Any]) -> str:
    """Return why the worker left its device or has no room, or which frameworks do not work on it."""
    unusable = (worker.get("unusable") or {}).items()
    return worker.get("left_because") or "; ".join(f"{name}: {why}" for name, why in unusable)


FIELDS = {
    "worker": Field("name"),
    "state": Field(lambda item: output.state_text(str(item.get("state")))),
    "job": Field("job_id", 1),
    "device": Field(lambda item: item.get("device_name") or item.get("device"), 2),
    "memory": Field(lambda item: output.size(item.get("memory_bytes")), 4, right=True),
    "frameworks": Field(lambda item: ", ".join(item.get("frameworks") or []), 5),
    "loaded": Field(lambda item: ", ".join((item.get("usage") or {}).get("loaded") or []), 7),
    "problem": Field(_problem, 6),
    "heartbeat": Field(lambda item: output.age(item.get("heartbeat_at")), 3, right=True),
}


@app.command()
def workers(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the workers, their devices and jobs."""
    empty = "No workers. Start one with `nightshift up`, or with `nightshift worker` on this host."
    print_items(client(ctx).workers(), FIELDS, empty, as_json=as_json)
