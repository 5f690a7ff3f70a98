"""Calls about registered models and schedules; see `requests`."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

from nightshift.client.requests import Call, Data, Request, collect, get, send
from nightshift.client.resources import Comparison, Model, ModelVersion, Schedule, each
from nightshift.client.types import JobData


def models() -> Call[list[Model]]:
    return each(Model, (yield from collect("models")))


def model(name: str) -> Call[Model]:
    return Model((yield get(_model(name))))


def promote(name: str, version: int, alias: str = "champion", reason: str | None = None) -> Call[Model]:
    """Points an alias at a version, atomically; the model as it is then."""
    body = {"version": version, "reason": reason}
    return Model((yield send("PUT", f"{_model(name)}/aliases/{quote(alias, safe='')}", body)))


def rollback(name: str, alias: str = "champion", reason: str | None = None) -> Call[Model]:
    """Points an alias back at where it was; raises `Conflict` when there is nothing before."""
    return Model((yield send("POST", f"{_model(name)}/rollback", {"alias": alias, "reason": reason})))


def delete_version(name: str, version: int) -> Call[None]:
    """Raises `Conflict` while an alias or a job that is not final holds it."""
    yield Request("DELETE", f"{_model(name)}/versions/{version}", True)


def model_history(name: str, limit: int | None = None) -> Call[list[Data]]:
    """The audit of a model's aliases, newest first."""
    return (yield from collect(f"{_model(name)}/history", None, limit))


def compare(name: str, a: str | int, b: str | int) -> Call[Comparison]:
    """Two versions (numbers or aliases) with their metrics side by side."""
    return Comparison((yield get(f"{_model(name)}/compare", {"a": str(a), "b": str(b)})))


def register_model(
    name: str, job_id: str, *, description: str | None = None, tags: dict[str, str] | None = None
) -> Call[ModelVersion]:
    """A version from the model that a finished job left; raises `Conflict` when it is one of this name already."""
    body = {"job": job_id, "description": description, "tags": tags or {}}
    return ModelVersion((yield send("POST", f"{_model(name)}/versions", body, safe=False)))


def describe_model(name: str, description: str | None) -> Call[Model]:
    """None takes the description away."""
    return Model((yield send("PATCH", _model(name), {"description": description}, safe=True)))


def change_version(name: str, version: int, **changes: Any) -> Call[ModelVersion]:
    """`description`, and `tags` (set, or removed where None); what is not given stays."""
    return ModelVersion((yield send("PATCH", f"{_model(name)}/versions/{version}", changes, safe=True)))


def files_path(ref: str) -> str:
    """Of the zip with a version's files: `digits` is its champion, `digits@3` that version, `digits@alias` another."""
    name, _, selector = ref.partition("@")
    return f"{_model(name)}/versions/{quote(selector or 'champion', safe='')}/files"


# -- schedules: named by id or by name ------------------------------------------------------------


def schedules() -> Call[list[Schedule]]:
    return each(Schedule, (yield from collect("schedules")))


def schedule(schedule: str) -> Call[Schedule]:
    return Schedule((yield get(_schedule(schedule))))


def add_schedule(spec: Data) -> Call[Schedule]:
    """`{"name": …, "cron": "0 2 * * *", "timezone": "Europe/Berlin", "job": {…}}`; raises `Conflict`: name taken."""
    return Schedule((yield send("POST", "schedules", spec)))


def change_schedule(schedule: str, **changes: Any) -> Call[Schedule]:
    """Fields that are not given stay; `enabled=False` pauses."""
    return Schedule((yield send("PATCH", _schedule(schedule), changes, safe=True)))


def delete_schedule(schedule: str) -> Call[None]:
    yield Request("DELETE", _schedule(schedule), True)


def run_schedule(schedule: str) -> Call[JobData]:
    return cast("JobData", (yield Request("POST", f"{_schedule(schedule)}/run", False)))


def preview_schedule(schedule: str, n: int = 10) -> Call[list[Data]]:
    """The next times: `{utc, local, tick}`."""
    return (yield from collect(f"{_schedule(schedule)}/preview", {"n": n}))


def schedule_history(schedule: str, limit: int | None = None) -> Call[list[Data]]:
    """Ticks, newest first, each with its `outcome`, `job_id` and `reason`."""
    return (yield from collect(f"{_schedule(schedule)}/history", None, limit))


def _model(name: str) -> str:
    return f"models/{quote(name, safe='')}"


def _schedule(schedule: str) -> str:
    return f"schedules/{quote(schedule, safe='')}"
