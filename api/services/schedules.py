"""Create and change schedules, after checking that the times are valid and POST /v1/jobs would accept the job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from zoneinfo import ZoneInfo

from api.dependencies import Service
from api.services.spec_errors import parse_spec
from api.services.submission import checked
from nightshift.errors import FieldError, InvalidRequest
from shared.db.engine import read, write
from shared.models import ownership
from shared.schedules import cron, queries, template, transitions
from shared.specs.schedules import SchedulePatch, ScheduleSpec

#: A time with a tick id of the greatest length, to check that rendered name and tags fit.
_SAMPLE = 1_800_000_000.123456
#: Fields of a job that would contradict the times of its schedule.
_NOT_IN_A_SCHEDULE = ("run_at", "after")


def create(service: Service, owner_id: str, spec: ScheduleSpec) -> dict[str, Any]:
    """Create a schedule; return it. Raises InvalidRequest, Conflict (name taken)."""
    cron.parse(spec.cron, spec.timezone)
    checked = spec.model_copy(update={"job": _checked_job(service, owner_id, spec.job)})
    with write(service.engine) as conn:
        schedule_id = transitions.create(conn, owner_id, checked)
        return queries.schedule_view(queries.get_schedule(conn, schedule_id, owner_id))


def change(service: Service, owner_id: str, reference: str, patch: SchedulePatch) -> dict[str, Any]:
    """Change a schedule; return it. Raises NotFound, InvalidRequest, Conflict (name taken)."""
    changes = patch.changes()
    with read(service.engine) as conn:
        schedule_id = queries.find_id(conn, reference, owner_id)
    if "job" in changes:
        changes["job"] = _checked_job(service, owner_id, changes["job"])
    with write(service.engine) as conn:
        transitions.change(conn, schedule_id, owner_id, changes)
        return queries.schedule_view(queries.get_schedule(conn, schedule_id, owner_id))


def _checked_job(service: Service, owner_id: str, job: dict[str, Any]) -> dict[str, Any]:
    """Return the complete spec with templates in name and tags; later changes of presets do not affect it."""
    with _inside("job"):
        for name in _NOT_IN_A_SCHEDULE:
            if job.get(name):
                raise InvalidRequest.field((name,), "is not allowed in a schedule, whose ticks determine when jobs run")
        sample = parse_spec(template.render(job, template.facts_of(_SAMPLE, ZoneInfo("UTC"))))
        spec, _ = checked(service, sample, owner_id)
        with read(service.engine) as conn:
            ownership.refuse_register_as(conn, getattr(spec, "register_as", None), owner_id)
    return {**spec.model_dump(mode="json"), "name": job.get("name"), "tags": job.get("tags") or {}}


@contextmanager
def _inside(field: str) -> Iterator[None]:
    """Prefix the paths of errors in an embedded body with its field."""
    try:
        yield
    except InvalidRequest as error:
        moved = [FieldError((field, *item.loc), item.msg) for item in error.errors]
        raise InvalidRequest(f"{field}: {error.detail}", moved) from None
