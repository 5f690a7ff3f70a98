"""From a body to a schedule: its times make sense, and its job would be accepted by POST /v1/jobs right now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from api.dependencies import Service
from api.services.spec_errors import invalid_spec
from api.services.submission import checked
from nightshift.errors import FieldError, InvalidRequest
from shared.db.engine import read, write
from shared.schedules import cron, queries, template, transitions
from shared.specs.schedules import SchedulePatch, ScheduleSpec

S = TypeVar("S", bound=BaseModel)

#: A moment whose tick id is as long as any: the rendered name and tags must fit.
_SAMPLE = 1_800_000_000.123456
#: The schedule says when; a job of its own time or dependencies would contradict it.
_NOT_IN_A_SCHEDULE = ("run_at", "after")


def parse(data: Any, model: type[S]) -> S:
    """Raises InvalidRequest that names every wrong field."""
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.", [FieldError((), "must be a JSON object")])
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid_spec(error, model, data) from None


def create(service: Service, owner_id: str, data: Any) -> dict[str, Any]:
    spec = parse(data, ScheduleSpec)
    cron.parse(spec.cron, spec.timezone)
    checked = spec.model_copy(update={"job": _checked_job(service, owner_id, spec.job)})
    with write(service.engine) as conn:
        schedule_id = transitions.create(conn, owner_id, checked)
        return queries.schedule_view(queries.get_schedule(conn, schedule_id, owner_id))


def change(service: Service, owner_id: str, reference: str, data: Any) -> dict[str, Any]:
    changes = parse(data, SchedulePatch).changes()
    with read(service.engine) as conn:
        schedule_id = queries.find_id(conn, reference, owner_id)
    if "job" in changes:
        changes["job"] = _checked_job(service, owner_id, changes["job"])
    with write(service.engine) as conn:
        transitions.change(conn, schedule_id, owner_id, changes)
        return queries.schedule_view(queries.get_schedule(conn, schedule_id, owner_id))


def _checked_job(service: Service, owner_id: str, job: dict[str, Any]) -> dict[str, Any]:
    """The complete spec with the templates of its name and tags still in it: it runs the same after a preset changes."""
    with _inside("job"):
        for name in _NOT_IN_A_SCHEDULE:
            if job.get(name):
                raise InvalidRequest.field((name,), "cannot stand in a schedule, whose ticks say when a job runs")
        spec, _ = checked(service, template.render(job, template.facts_of(_SAMPLE, ZoneInfo("UTC"))), owner_id)
    return {**spec.model_dump(mode="json"), "name": job.get("name"), "tags": job.get("tags") or {}}


@contextmanager
def _inside(field: str) -> Iterator[None]:
    """Errors of a body inside ours get the place that they have there."""
    try:
        yield
    except InvalidRequest as error:
        moved = [FieldError((field, *item.loc), item.msg) for item in error.errors]
        raise InvalidRequest(f"{field}: {error.detail}", moved) from None
