"""Read-only queries of schedules and their ticks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, func, select, true

from shared.clock import db_now, iso, read_clock
from shared.db.rows import NamedRows, existing
from shared.db.schema import jobs, schedule_ticks, schedules
from shared.jobs.queries import cursors
from shared.jobs.queries.cursors import Page
from shared.schedules import cron
from shared.schedules.models import TickOutcome
from shared.schedules.template import tick_id

SCHEDULES = NamedRows(schedules, "schedule")
_newest = (
    select(schedule_ticks.c.schedule_id, func.max(schedule_ticks.c.due_at).label("due_at"))
    .group_by(schedule_ticks.c.schedule_id)
    .subquery()
)


def _rows(owner_id: str | None) -> Select[Any]:
    """Select schedules with their newest tick; `owner_id` None: of all owners."""
    last = and_(schedule_ticks.c.schedule_id == _newest.c.schedule_id, schedule_ticks.c.due_at == _newest.c.due_at)
    return (
        select(
            schedules,
            schedule_ticks.c.due_at.label("last_due_at"),
            schedule_ticks.c.outcome.label("last_outcome"),
            schedule_ticks.c.job_id.label("last_job_id"),
        )
        .select_from(
            schedules.outerjoin(_newest, _newest.c.schedule_id == schedules.c.id).outerjoin(schedule_ticks, last)
        )
        .where(owned_by(owner_id))
    )


def owned_by(owner_id: str | None) -> Any:
    """Return the condition for schedules of an owner; None: of all owners."""
    return schedules.c.owner_id == owner_id if owner_id is not None else true()


def find_id(conn: Connection, reference: str, owner_id: str | None) -> str:
    """Return a schedule's id by id or name. Raises NotFound, also for another owner's."""
    return SCHEDULES.find_id(conn, reference, owned_by(owner_id))


def get_schedule(conn: Connection, schedule_id: str, owner_id: str | None) -> RowMapping:
    """Return a schedule with its newest tick. Raises NotFound."""
    row = conn.execute(_rows(owner_id).where(schedules.c.id == schedule_id)).mappings().one_or_none()
    return existing(row, SCHEDULES.noun, schedule_id)


def list_schedules(conn: Connection, owner_id: str | None) -> list[dict[str, Any]]:
    """Return schedules in the API's format, sorted by name."""
    return [schedule_view(row) for row in conn.execute(_rows(owner_id).order_by(schedules.c.name)).mappings()]


def preview(conn: Connection, schedule_id: str, owner_id: str | None, count: int) -> list[dict[str, str | None]]:
    """Return the next ticks from now, also of a paused schedule. Raises NotFound."""
    row = get_schedule(conn, schedule_id, owner_id)
    checked = cron.parse(row["cron"], row["timezone"])
    now = read_clock(conn)
    times = checked.preview(now, count)
    return [{"utc": iso(at), "local": cron.local_iso(at, checked.zone), "tick": tick_id(at)} for at in times]


def recent(conn: Connection, schedule_id: str, count: int) -> list[dict[str, Any]]:
    """Return the newest ticks, oldest first, with their outcomes and the states of their jobs."""
    shown = (schedule_ticks.c[name] for name in ("due_at", "manual", "outcome", "job_id"))
    rows = conn.execute(_newest_ticks(schedule_id, *shown).limit(count)).mappings().all()
    return [{**row, "due_at": iso(row["due_at"])} for row in reversed(rows)]


def _newest_ticks(schedule_id: str, *columns: Any) -> Select[Any]:
    """Select ticks, newest first, with the states of their jobs."""
    return (
        select(*columns, jobs.c.state.label("job_state"))
        .select_from(schedule_ticks.outerjoin(jobs, jobs.c.id == schedule_ticks.c.job_id))
        .where(schedule_ticks.c.schedule_id == schedule_id)
        .order_by(schedule_ticks.c.due_at.desc())
    )


def history(
    conn: Connection, schedule_id: str, owner_id: str | None, cursor: str | None = None, limit: int = 50
) -> Page:
    """Return a page of ticks with their outcomes, newest first.

    Raises NotFound, MalformedRequest for a bad cursor.
    """
    zone = cron.parse(*_times(get_schedule(conn, schedule_id, owner_id))).zone
    statement = _newest_ticks(schedule_id, schedule_ticks).limit(limit + 1)
    if cursor is not None:
        (before,) = cursors.decode("ticks", cursor, float)
        statement = statement.where(schedule_ticks.c.due_at < before)
    rows = conn.execute(statement).mappings().all()
    return cursors.page("ticks", rows, limit, ("due_at",), lambda row: _tick_view(row, zone))


def _times(row: RowMapping) -> tuple[str, str]:
    return row["cron"], row["timezone"]


def due_ids(conn: Connection, limit: int) -> list[str]:
    """Return the ids of schedules with a due tick, longest due first."""
    statement = select(schedules.c.id).where(schedules.c.next_at <= db_now()).order_by(schedules.c.next_at)
    return [str(schedule_id) for schedule_id in conn.scalars(statement.limit(limit))]


def waiting_ids(conn: Connection) -> list[str]:
    """Return the ids of schedules with a tick that waits for a previous job."""
    statement = select(schedule_ticks.c.schedule_id).where(schedule_ticks.c.outcome == TickOutcome.WAITING.value)
    return [str(schedule_id) for schedule_id in conn.scalars(statement.distinct())]


_SHOWN_AS_IS = (
    "id", "name", "cron", "timezone", "job", "enabled", "catch_up", "catch_up_limit", "max_lateness_seconds", "overlap",
    "skip_if_unchanged",
)  # fmt: skip


def schedule_view(row: RowMapping) -> dict[str, Any]:
    """Return a schedule in the API's format."""
    zone = cron.parse(*_times(row)).zone
    last = None
    if row["last_due_at"] is not None:
        last = {
            "tick": tick_id(row["last_due_at"]),
            "due_at": iso(row["last_due_at"]),
            "outcome": row["last_outcome"],
            "job_id": row["last_job_id"],
        }
    return {
        **{column: row[column] for column in _SHOWN_AS_IS},
        "next_at": iso(row["next_at"]),
        "next_at_local": cron.local_iso(row["next_at"], zone) if row["next_at"] is not None else None,
        "last_tick": last,
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
    }


def _tick_view(row: RowMapping, zone: Any) -> dict[str, Any]:
    return {
        "tick": tick_id(row["due_at"]),
        "due_at": iso(row["due_at"]),
        "due_at_local": cron.local_iso(row["due_at"], zone),
        **{column: row[column] for column in ("manual", "outcome", "job_id", "job_state", "reason")},
        "decided_at": iso(row["decided_at"]),
    }
