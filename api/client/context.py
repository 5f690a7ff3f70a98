"""What all commands share: the connection made from the global options, and the `--json` option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from api.client.sdk import Client, Job


@dataclass
class Options:
    """The global options, kept until a command wants to talk to the API."""

    url: str | None = None
    key: str | None = None
    data_dir: str | None = None


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, or the beginning of it while that is unique.")]


def client(ctx: typer.Context) -> Client:
    """A connection that closes when the command ends."""
    from api.client.sdk import Client

    options = ctx.find_object(Options) or Options()
    made = Client(options.url, options.key, data_dir=options.data_dir)
    ctx.call_on_close(made.close)
    return made


def job(ctx: typer.Context, job_id: str) -> Job:
    return client(ctx).job(job_id)


def data_dir(ctx: typer.Context) -> str | None:
    """The global option `--data-dir`, for commands that read settings themselves."""
    return (ctx.find_object(Options) or Options()).data_dir
