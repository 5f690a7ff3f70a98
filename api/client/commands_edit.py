"""Jobs that are there, changed: `rerun` makes a new one like them."""

from __future__ import annotations

from typing import Any

import typer

from api.client import bodies
from api.client.commands_submit import BatchSize, Epochs, Follow, LearningRate, Seed, Sets, tell_of
from api.client.context import AsJson, JobId, find_job
from shared.errors import InvalidRequest


def register(app: typer.Typer, panel: str) -> None:
    app.command(rich_help_panel=panel)(rerun)


def rerun(
    ctx: typer.Context,
    job_id: JobId,
    set_: Sets = None,
    name: str | None = typer.Option(None, help="A label for people."),
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    seed: Seed = None,
    idempotency_key: str | None = typer.Option(None, help="Submitting twice with one key makes one job."),
    follow: Follow = False,
    as_json: AsJson = False,
) -> None:
    """Run a job again with changes, e.g. `rerun 3f2a --set training.epochs=10`. Prints the new job's id."""
    given = {
        "name": name, "training.epochs": epochs, "training.batch_size": batch_size,
        "training.learning_rate": learning_rate, "training.seed": seed,
    }  # fmt: skip
    changes = {path: value for path, value in given.items() if value is not None}
    changes |= _sets(set_ or [])
    tell_of(ctx, find_job(ctx, job_id).rerun(changes, idempotency_key), follow=follow, as_json=as_json)


def _sets(texts: list[str]) -> dict[str, Any]:
    found = dict(bodies.assigned(texts))
    if len(found) < len(texts):
        raise InvalidRequest("--set names a field twice.")
    return found
