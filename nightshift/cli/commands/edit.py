"""Commands that change jobs: `edit` their name, notes, tags and priority; `rerun` submits a changed copy."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from nightshift.cli import payload, suggestions
from nightshift.cli.commands.submit import Follow, IdempotencyKey, Sets, print_submitted, training_settings
from nightshift.cli.errors import CommandGroup
from nightshift.cli.options import AsJson, JobId, find_job, with_options
from nightshift.cli.render import output
from nightshift.errors import InvalidRequest


def edit(
    ctx: typer.Context,
    job_id: JobId,
    name: Annotated[str | None, typer.Option(help='A display name; "" removes it.')] = None,
    notes: Annotated[str | None, typer.Option(help='Notes on the job; - reads stdin, "" removes them.')] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Set a tag. Repeatable.")] = None,
    untag: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Remove a tag. Repeatable.")] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9; higher runs first. Only before the job runs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a job's name, notes, tags or priority. Use `rerun` to change its settings."""
    changes: dict[str, Any] = {} if priority is None else {"priority": priority}
    for field, text in (("name", name), ("notes", sys.stdin.read().strip() if notes == "-" else notes)):
        if text is not None:
            changes[field] = text or None
    tags: dict[str, str | None] = dict.fromkeys(untag or []) | payload.tags(tag or [])
    if tags:
        changes["tags"] = tags
    if not changes:
        raise InvalidRequest("Nothing to change: give --name, --notes, --tag, --untag or --priority.")
    job = find_job(ctx, job_id).edit(**changes)
    return output.print_json(job.data) if as_json else typer.echo(job.id)


@with_options(training_settings)
def rerun(
    ctx: typer.Context,
    job_id: JobId,
    set_: Sets = None,
    name: Annotated[str | None, typer.Option(help="A display name; that of the old job is not copied.")] = None,
    keep_name: Annotated[bool, typer.Option("--keep-name", help="Copy the name of the old job.")] = False,
    register_as: Annotated[
        str | None,
        typer.Option(help="Register the result as a new version of this model; default: do not register it."),
    ] = None,
    *,
    idempotency_key: IdempotencyKey = None,
    follow: Follow = False,
    as_json: AsJson = False,
    **training: Any,
) -> None:
    """Run a job again, with changes. E.g. `rerun 3f2a --set training.epochs=10`. Prints the new job's id."""
    if name is not None and keep_name:
        raise InvalidRequest("Give --name or --keep-name, not both.")
    old = find_job(ctx, job_id)
    given = {
        "name": old.data.get("name") if keep_name else name,
        "register_as": register_as,
        **training_settings(**training),
    }
    changes = {path: value for path, value in given.items() if value is not None}
    changes |= _sets(set_ or [])
    new = old.rerun(changes, idempotency_key)
    if not as_json:
        suggestions.registration(new, old)
    print_submitted(ctx, new, follow=follow, as_json=as_json)


def _sets(texts: list[str]) -> dict[str, Any]:
    found = dict(payload.assigned(texts))
    if len(found) < len(texts):
        raise InvalidRequest("--set gives a field twice.")
    return found


app = typer.Typer(cls=CommandGroup, rich_markup_mode=None, add_completion=False)
for _command in (edit, rerun):
    app.command()(_command)
