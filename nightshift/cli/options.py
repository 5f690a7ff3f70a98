"""Parts that all commands share: the client made from the global options, common arguments, and `--json`."""

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
    """The global options."""

    url: str | None = None
    key: str | None = None
    data_dir: str | None = None


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The job's id, or a unique prefix of it.",
        autocompletion=completion.job_ids,
    ),
]
JobIds = Annotated[
    list[str], typer.Argument(metavar="ID...", help="One or more job ids.", autocompletion=completion.job_ids)
]


def client(ctx: typer.Context) -> Client:
    """Return a client that is closed when the command ends."""
    from nightshift.client.client import Client

    options = ctx.find_object(Options) or Options()
    made = Client(options.url, options.key, data_dir=options.data_dir)
    ctx.call_on_close(made.close)
    return made


def find_job(ctx: typer.Context, job_id: str) -> Job:
    """Return a job by its id or a prefix. Raises `NotFound` that suggests a similar id."""
    return find_jobs(ctx, [job_id])[0]


def find_jobs(ctx: typer.Context, job_ids: Sequence[str]) -> list[Job]:
    """Return the jobs with these ids, each once."""
    api = client(ctx)
    return [_find(api, job_id) for job_id in dict.fromkeys(job_ids)]


def _find(api: Client, job_id: str) -> Job:
    try:
        return api.job(job_id)
    except NotFound as error:
        from nightshift.cli import suggestions

        raise NotFound(f"{error}{suggestions.nearest_job(api, job_id)}") from error


def data_dir(ctx: typer.Context) -> str | None:
    """Return the global option `--data-dir`, for commands that read settings themselves."""
    return (ctx.find_object(Options) or Options()).data_dir
