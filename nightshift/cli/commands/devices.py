"""`nightshift devices`: the ledger of devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from nightshift.cli import completion
from nightshift.cli.options import AsJson, client
from nightshift.cli.registry import group
from nightshift.cli.render import output
from nightshift.cli.render.tables import Field, print_items

app = group("devices")

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="DEVICE...",
        help="A device by its worker (gpu0@host) or UUID, or a host with all devices that it has now.",
        autocompletion=completion.device_names,
    ),
]


@app.callback()
def _default(ctx: typer.Context, as_json: AsJson = False) -> None:
    if not ctx.invoked_subcommand:
        list_devices(ctx, as_json)


def _held(device: Mapping[str, Any]) -> str | None:
    """Return the attempt that holds it, as `1f3a… attempt 2`."""
    if not device["is_held"]:
        return None
    return f"{device['job_id']} attempt {device['attempt']}" if device["job_id"] else "another owner's job"


def _state(device: Mapping[str, Any]) -> str:
    state = str(device["state"] or "offline")
    return f"{state}, cordoned" if device["cordoned_at"] else state


FIELDS = {
    "device": Field(lambda item: item["worker"] or item["id"]),
    "state": Field(_state),
    "held by": Field(_held, 1),
    "since": Field(lambda item: output.age(item["held_since"]) if item["held_since"] else None, 2, right=True),
    "model": Field("model", 3),
    "memory": Field(lambda item: output.size(item["memory_bytes"]), 4, right=True),
    "labels": Field(lambda item: ", ".join(item["labels"]), 5),
}
_EMPTY = "No devices. Start a worker with `nightshift up`, or with `nightshift worker` on this host."


@app.command("list")
def list_devices(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the devices of all hosts, and what holds them."""
    print_items(client(ctx).devices(), FIELDS, _EMPTY, as_json=as_json)


@app.command("cordon")
def cordon(ctx: typer.Context, names: Names, as_json: AsJson = False) -> None:
    """Let no attempt take these devices until `uncordon`; those that hold them go on."""
    _steer(client(ctx).cordon, names, as_json)


@app.command("drain")
def drain(ctx: typer.Context, names: Names, as_json: AsJson = False) -> None:
    """Cordon these devices; their jobs write a checkpoint and return to the queue."""
    _steer(client(ctx).drain, names, as_json)


@app.command("uncordon")
def uncordon(ctx: typer.Context, names: Names, as_json: AsJson = False) -> None:
    """Let attempts take these devices again."""
    _steer(client(ctx).uncordon, names, as_json)


@app.command("forget")
def forget(ctx: typer.Context, names: Names, as_json: AsJson = False) -> None:
    """Remove devices and hosts that are gone from all lists; refused while a worker there lives."""
    _steer(client(ctx).forget, names, as_json)


def _steer(act: Callable[[str], list[Any]], names: list[str], as_json: bool) -> None:
    found = [device for name in names for device in act(name)]
    print_items(found, FIELDS, _EMPTY, as_json=as_json)
