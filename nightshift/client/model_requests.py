"""Calls about registered models and schedules; see `requests`."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

from nightshift.client.requests import Call, Data, Request, collect, get, send
from nightshift.client.resources import Comparison, Model, ModelVersion, Schedule, each
from nightshift.client.types import JobData


def models() -> Call[list[Model]]:
    """Return the registered models, each with its champion."""
    return each(Model, (yield from collect("models")))


def model(name: str) -> Call[Model]:
    """Return a registered model with its versions, newest first. Raises `NotFound`."""
    return Model((yield get(_model(name))))


def promote(name: str, version: int, alias: str = "champion", reason: str | None = None) -> Call[Model]:
    """Point an alias at a version, atomically, and return the model. `reason` is kept in the history."""
    body = {"version": version, "reason": reason}
    return Model((yield send("PUT", f"{_model(name)}/aliases/{quote(alias, safe='')}", body)))


def rollback(name: str, alias: str = "champion", reason: str | None = None) -> Call[Model]:
    """Point an alias back at its previous version. Raises `Conflict` if there is none."""
    return Model((yield send("POST", f"{_model(name)}/rollback", {"alias": alias, "reason": reason})))


def delete_version(name: str, version: int) -> Call[None]:
    """Delete a version of a model. Raises `Conflict` while an alias or an unfinished job uses it."""
    yield Request("DELETE", f"{_model(name)}/versions/{version}", True)


def model_history(name: str, limit: int | None = None) -> Call[list[Data]]:
    """Return the changes of a model's aliases, newest first, with time, author and reason."""
    return (yield from collect(f"{_model(name)}/history", None, limit))


def compare(name: str, a: str | int, b: str | int) -> Call[Comparison]:
    """Compare the metrics of two versions of a model; `a` and `b` are version numbers or aliases."""
    return Comparison((yield get(f"{_model(name)}/compare", {"a": str(a), "b": str(b)})))


def register_model(
    name: str, job_id: str, *, description: str | None = None, tags: dict[str, str] | None = None
) -> Call[ModelVersion]:
    """Register the model of a succeeded job as a new version. Raises `Conflict` if it is one already."""
    body = {"job": job_id, "description": description, "tags": tags or {}}
    return ModelVersion((yield send("POST", f"{_model(name)}/versions", body, safe=False)))


def describe_model(name: str, description: str | None) -> Call[Model]:
    """Set the description of a model; None removes it."""
    return Model((yield send("PATCH", _model(name), {"description": description}, safe=True)))


def change_version(name: str, version: int, **changes: Any) -> Call[ModelVersion]:
    """Change a version's `description` or `tags`; a value of None removes the description or tag."""
    return ModelVersion((yield send("PATCH", f"{_model(name)}/versions/{version}", changes, safe=True)))


def files_path(ref: str) -> str:
    """Return the URL path of a version's zip: `digits` (its champion), `digits@3` or `digits@alias`."""
    return f"{_version(ref)}/files"


def export_path(ref: str, format: str) -> str:
    """Return the URL path of a version as one file of this format."""
    return f"{_version(ref)}/export?format={quote(format, safe='')}"


# -- schedules: by id or by name ------------------------------------------------------------------


def schedules() -> Call[list[Schedule]]:
    """Return the schedules."""
    return each(Schedule, (yield from collect("schedules")))


def schedule(schedule: str) -> Call[Schedule]:
    """Return a schedule by its id or name. Raises `NotFound`."""
    return Schedule((yield get(_schedule(schedule))))


def add_schedule(spec: Data) -> Call[Schedule]:
    """Create a schedule: `{"name": …, "cron": "0 2 * * *", "timezone": "Europe/Berlin", "job": {…}}`.

    Raises `Conflict` if the name is taken.
    """
    return Schedule((yield send("POST", "schedules", spec)))


def change_schedule(schedule: str, **changes: Any) -> Call[Schedule]:
    """Change the given fields of a schedule; `enabled=False` pauses it."""
    return Schedule((yield send("PATCH", _schedule(schedule), changes, safe=True)))


def delete_schedule(schedule: str) -> Call[None]:
    """Delete a schedule and its history. Jobs it has submitted are not affected."""
    yield Request("DELETE", _schedule(schedule), True)


def run_schedule(schedule: str) -> Call[JobData]:
    """Submit the schedule's job now and return it."""
    return cast("JobData", (yield Request("POST", f"{_schedule(schedule)}/run", False)))


def preview_schedule(schedule: str, n: int = 10) -> Call[list[Data]]:
    """Return the schedule's next `n` times, as `{utc, local, tick}`."""
    return (yield from collect(f"{_schedule(schedule)}/preview", {"n": n}))


def schedule_history(schedule: str, limit: int | None = None) -> Call[list[Data]]:
    """Return the schedule's past ticks, newest first, each with `outcome`, `job_id` and `reason`."""
    return (yield from collect(f"{_schedule(schedule)}/history", None, limit))


def _version(ref: str) -> str:
    name, _, selector = ref.partition("@")
    return f"{_model(name)}/versions/{quote(selector or 'champion', safe='')}"


def _model(name: str) -> str:
    return f"models/{quote(name, safe='')}"


def _schedule(schedule: str) -> str:
    return f"schedules/{quote(schedule, safe='')}"
