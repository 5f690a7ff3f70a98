"""What all commands share: the connection made from the global options, and the `--json` option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nightshift.cli import completion
from nightshift.errors import NotFound

if TYPE_CHECKING:
    from nightshift.client.client import Client, Job


@dataclass
class Options:
    """The global options, kept until a command wants to talk to the API."""

    url: str | None = None
    key: str | None = None
    data_dir: str | None = None


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A job's id, or the beginning of it while that is unique.",
        autocompletion=completion.job_ids,
    ),
]
JobIds = Annotated[
    list[str], typer.Argument(metavar="ID...", help="One or more jobs.", autocompletion=completion.job_ids)
]


def client(ctx: typer.Context) -> Client:
    """A connection that closes when the command ends."""
    from nightshift.client.client import Client

    options = ctx.find_object(Options) or Options()
    made = Client(options.url, options.key, data_dir=options.data_dir)
    ctx.call_on_close(made.close)
    return made


def find_job(ctx: typer.Context, job_id: str) -> Job:
    """Raises `NotFound` that names the nearest one there is."""
    return find_jobs(ctx, [job_id])[0]


def find_jobs(ctx: typer.Context, job_ids: Sequence[str]) -> list[Job]:
    """The jobs of these ids, each once."""
    asked = client(ctx)
    return [_find(asked, job_id) for job_id in dict.fromkeys(job_ids)]


def _find(asked: Client, job_id: str) -> Job:
    try:
        return asked.job(job_id)
    except NotFound as error:
        from nightshift.cli import suggestions

        raise NotFound(f"{error}{suggestions.nearest_job(asked, job_id)}") from error


def data_dir(ctx: typer.Context) -> str | None:
    """The global option `--data-dir`, for commands that read settings themselves."""
    return (ctx.find_object(Options) or Options()).data_dir
