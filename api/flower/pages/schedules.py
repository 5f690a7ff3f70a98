"""Pages of schedules: the list, one schedule with its next times and past ticks, and changes of schedules."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, select

from api.flower.pages.base import Action, Handler, Page, message_for
from api.services import schedules as scheduling
from api.services.spec_errors import parse
from nightshift.errors import InvalidRequest
from shared.clock import iso, read_clock
from shared.db.engine import read
from shared.db.schema import jobs, schedules
from shared.fleet.keys import owner_names
from shared.jobs import queries as job_queries
from shared.schedules import cron, queries, transitions
from shared.specs.schedules import SchedulePatch, ScheduleSpec

#: Ticks in a row of the list; next times and past ticks on the page of one schedule.
STRIP, NEXT, TICKS = 14, 6, 25
#: Fields of the job in the list.
_WORK = ("kind", "model", "model_ref", "dataset")


async def listed(handler: Handler) -> dict[str, Any]:
    """Return the data of the list."""
    owner = handler.owner

    def find(conn: Connection) -> list[dict[str, Any]]:
        who = _owners(conn, owner)
        return [
            item
            | {"job": {name: item["job"].get(name) for name in _WORK}}
            | {"ticks": queries.recent(conn, item["id"], STRIP), "who": who[item["id"]]}
            for item in queries.list_schedules(conn, owner)
        ]

    return {"schedules": await handler.query(find)}


def _owners(conn: Connection, owner: str | None) -> dict[str, str]:
    rows = conn.execute(select(schedules.c.id, schedules.c.owner_id).where(queries.owned_by(owner))).all()
    names = owner_names(conn, {row.owner_id for row in rows})
    return {row.id: names.get(row.owner_id, row.owner_id) for row in rows}


async def schedule(handler: Handler, reference: str) -> dict[str, Any]:
    """Return the data of one schedule. Raises NotFound."""
    owner = handler.owner

    def find(conn: Connection) -> dict[str, Any]:
        schedule_id = queries.find_id(conn, reference, owner)
        shown = queries.schedule_view(queries.get_schedule(conn, schedule_id, owner))
        history = ticks(conn, schedule_id, owner, None)
        return {"schedule": shown, "next": queries.preview(conn, schedule_id, owner, NEXT), "history": history}

    return await handler.query(find)


def ticks(conn: Connection, schedule_id: str, owner: str | None, cursor: str | None) -> dict[str, Any]:
    """Return a page of past ticks, newest first."""
    page = queries.history(conn, schedule_id, owner, cursor, TICKS)
    return {"items": page.items, "next": page.next_cursor}


class SchedulePage(Page):
    """One schedule."""

    tab = "schedules"

    async def get(self, reference: str) -> None:
        shown = await schedule(self, reference)
        self.show("ns_schedule.html", shown["schedule"]["name"], shown)


async def history(handler: Handler, reference: str) -> dict[str, Any]:
    """Return a page of earlier ticks. Raises NotFound."""
    cursor, owner = handler.text_argument("cursor", 300), handler.owner
    return await handler.query(lambda conn: ticks(conn, queries.find_id(conn, reference, owner), owner, cursor))


def found(conn: Connection, reference: str, owner: str | None) -> tuple[str, str]:
    """Return the id and owner of a schedule that this key may change. Raises NotFound."""
    row = queries.get_schedule(conn, queries.find_id(conn, reference, owner), owner)
    return row["id"], row["owner_id"]


async def run_now(handler: Action, reference: str) -> dict[str, Any]:
    """Submit a schedule's job now."""

    def work(conn: Connection) -> tuple[str, str]:
        job_id = transitions.run_now(conn, *found(conn, reference, handler.owner))
        return job_id, conn.scalars(select(jobs.c.device).where(jobs.c.id == job_id)).one()

    job_id, device = await handler.change(work)
    handler.site.service.ring(device, job_id)
    return {"message": f"Job {job_id[:8]} submitted.", "job_id": job_id}


async def pause_or_resume(handler: Action, reference: str, verb: str) -> dict[str, Any]:
    """Pause or resume a schedule."""

    def work(conn: Connection) -> Any:
        schedule_id, whose = found(conn, reference, handler.owner)
        transitions.change(conn, schedule_id, whose, {"enabled": verb == "resume"})
        return queries.schedule_view(queries.get_schedule(conn, schedule_id, whose))

    shown = await handler.change(work)
    resumed = f"{shown['name']} resumed; ticks during the pause are not run."
    return {"message": resumed if shown["enabled"] else f"{shown['name']} paused."}


async def preview(handler: Handler) -> dict[str, Any]:
    """Return the next times of an expression while it is typed: {times}, or {error}, which is an expected answer."""
    expression, zone = handler.text_argument("cron") or "", handler.text_argument("timezone") or "UTC"
    try:
        found = cron.parse(expression, zone)
    except InvalidRequest as error:
        return {"error": message_for(error)}
    now = await handler.query(read_clock)
    moments = await handler.off_loop(lambda: found.preview(now, NEXT))
    return {"times": [{"utc": iso(one), "local": cron.local_iso(one, found.zone)} for one in moments]}


async def add(handler: Action) -> dict[str, Any]:
    """Create a schedule from the spec of an existing job."""
    body, owner, who = handler.body(), handler.owner, handler.principal.owner_id
    reference = body.pop("job", None)
    if not (isinstance(reference, str) and re.fullmatch("[0-9a-f]{4,16}", reference)):
        raise InvalidRequest.field(("job",), "must be a job id or at least its first 4 characters")

    def work() -> dict[str, Any]:
        with read(handler.site.engine) as conn:
            spec = job_queries.get_job(conn, job_queries.find_id(conn, reference, owner), owner)["spec"]
        job = {key: value for key, value in spec.items() if key not in ("run_at", "after")}
        return scheduling.create(handler.site.service, who, parse({**body, "job": job}, ScheduleSpec))

    shown = await handler.off_loop(work)
    return {"message": f"{shown['name']} runs next at {shown['next_at_local']}.", "name": shown["name"]}


async def change(handler: Action, reference: str) -> dict[str, Any]:
    """Change a schedule."""
    patch, owner = parse(handler.body(), SchedulePatch), handler.owner

    def work() -> dict[str, Any]:
        with read(handler.site.engine) as conn:
            schedule_id, whose = found(conn, reference, owner)
        return scheduling.change(handler.site.service, whose, schedule_id, patch)

    shown = await handler.off_loop(work)
    return {"message": f"{shown['name']} saved.", "name": shown["name"]}


async def delete(handler: Action, reference: str) -> dict[str, Any]:
    """Delete a schedule."""
    await handler.change(lambda conn: transitions.delete_schedule(conn, *found(conn, reference, handler.owner)))
    return {"message": "Schedule deleted."}
