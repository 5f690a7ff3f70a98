"""Commands for finished jobs: archive, unarchive, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from nightshift.cli.errors import CommandGroup
from nightshift.cli.options import JobIds, find_job
from nightshift.cli.render import output
from nightshift.errors import RequestError


def archive(ctx: typer.Context, job_ids: JobIds) -> None:
    """Hide finished jobs from lists. `jobs -q is:archived` lists them; `unarchive` shows them again."""
    for job_id in job_ids:
        print(f"{find_job(ctx, job_id).archive().id} archived")


def unarchive(ctx: typer.Context, job_ids: JobIds) -> None:
    """Show archived jobs in lists again."""
    for job_id in job_ids:
        print(f"{find_job(ctx, job_id).unarchive().id} unarchived")


def delete(
    ctx: typer.Context,
    job_ids: JobIds,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask for confirmation; archived jobs never need it.")
    ] = False,
) -> None:
    """Delete finished jobs and their files. Fails for a job that a model, job or schedule needs."""
    refused = False
    for job in [find_job(ctx, job_id) for job_id in job_ids]:
        named = f"{job.id} {job.data.get('name') or ''}".strip()
        if not (yes or job.data.get("archived_at")):
            typer.confirm(f"Delete {named} ({job.state}) and all its files? This cannot be undone.", abort=True)
        try:
            job.delete()
        except RequestError as error:
            refused = True
            output.print_note(error.detail)
        else:
            print(f"{job.id} deleted")
    if refused:
        raise typer.Exit(1)


app = typer.Typer(cls=CommandGroup, rich_markup_mode=None, add_completion=False)
for _command in (archive, unarchive, delete):
    app.command()(_command)
