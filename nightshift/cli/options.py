"""Parts that all commands share: the client made from the global options, common arguments, and `--json`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightshift.cli import completion
from nightshift.errors import NotFound
from nightshift.names import FRAMEWORKS, either

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
FamilyName = Annotated[
    str,
    typer.Argument(
        metavar="FAMILY",
        help="A model family; `nightshift families` lists them with their presets.",
        autocompletion=completion.families,
    ),
]
Preset = Annotated[str | None, typer.Option(help="A preset of the family.", autocompletion=completion.presets)]
Framework = Annotated[str | None, typer.Option(help=f"{either(FRAMEWORKS)}.", autocompletion=completion.frameworks)]


def with_options(declared: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for commands that share the parameters of `declared`, which they receive as `**keywords`.

    In the help they stand before the command's own keyword-only parameters.
    """

    def extend(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [one for one in parameters_of(command) if one.kind is not inspect.Parameter.VAR_KEYWORD]
        last = [one for one in own if one.kind is inspect.Parameter.KEYWORD_ONLY]
        set_parameters(command, [*own[: len(own) - len(last)], *parameters_of(declared), *last])
        return command

    return extend


def parameters_of(command: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a command, with their evaluated annotations."""
    return list(inspect.signature(command, eval_str=True).parameters.values())


def set_parameters(command: Any, parameters: Iterable[inspect.Parameter]) -> None:
    """Give a command these parameters, from which Typer makes its arguments and options."""
    named = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    command.__signature__ = inspect.Signature(named)
    command.__annotations__ = {one.name: one.annotation for one in named}


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
