"""Fronts: the first due job of each part of the queue.

The queue is read by what its jobs require (`jobs.requires`: device, framework, plug-in and needs in one text) and by
priority. The front of each such part is found by a search of one index, so the time of a claim depends neither on the
jobs that a worker cannot run nor on those with a later `run_at`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)

from shared.clock import now_once
from shared.db.schema import jobs
from shared.fleet.needs import Needs
from shared.fleet.plugins import InstalledPlugin

PRIORITIES = range(10)

#: A literal, so that SQLite can use the partial indexes of the queue.
QUEUED: ColumnElement[str] = literal_column("'queued'")


def requires(device: str, framework: str | None, plugin: str | None) -> str:
    """Return `jobs.requires` of a job without needs beyond the kind of its device."""
    return f"{device}/{framework or ''}/{plugin or ''}"


def device_of(required: str) -> str:
    """Return the device in `jobs.requires`."""
    return required.partition("/")[0]


def base_of(required: str) -> str:
    """Return `jobs.requires` without the needs."""
    return required.partition("#")[0]


def needs_of(required: str) -> Needs:
    """Return the needs in `jobs.requires`."""
    return Needs.parse(required.partition("#")[2])


def row_of(required: str) -> dict[str, str | None]:
    """Return the columns of a job that requires this, as `eligibility.can_run` reads them; no version is pinned."""
    device, framework, plugin = base_of(required).split("/", 2)
    needs = required.partition("#")[2] or None
    facts = {"device": device, "framework": framework or None, "plugin": plugin or None, "needs": needs}
    return {**facts, "plugin_record": None, "plugin_state": None}


def runnable_parts(
    device: str, frameworks: Iterable[str], plugins: Iterable[InstalledPlugin], takes_auto: bool = True
) -> list[str]:
    """Return `jobs.requires`, without needs, of all jobs that a worker with these devices and software might run."""
    devices = ("auto", device) if takes_auto else (device,)
    having = [None, *sorted(frameworks)]
    named = [None, *sorted({plugin.plugin for plugin in plugins})]
    return [requires(*part) for part in product(devices, having, named)]


@dataclass(frozen=True)
class Front:
    """The first due job of a part of the queue: of those with the same requirements and priority."""

    job_id: str
    requires: str
    priority: int

    @property
    def part(self) -> tuple[str, int]:
        """Return what its jobs have in common: requirements and priority."""
        return self.requires, self.priority

    @property
    def device(self) -> str:
        """Return the device that its jobs require."""
        return device_of(self.requires)

    @property
    def plugin(self) -> str | None:
        """Return the plug-in that its jobs require."""
        return base_of(self.requires).split("/", 2)[2] or None

    @property
    def needs(self) -> Needs:
        """Return what its jobs need of their devices."""
        return needs_of(self.requires)


def fronts(conn: Connection, parts: Sequence[str] | None = None) -> list[Front]:
    """Return the fronts of the queue in the order of the claim; those of some parts, whatever their jobs need."""
    found = conn.scalars(_first_ids(are_all=parts is None), {} if parts is None else {"parts": parts})
    ids = [job_id for job_id in found if job_id is not None]
    rows = [Front(*row) for row in conn.execute(_IN_ORDER, {"ids": ids})] if ids else []
    return [front for front in rows if parts is None or base_of(front.requires) in parts]


def due_front(conn: Connection, job_id: str) -> Front | None:
    """Return a job as the front of its part of the queue; None: it is not due."""
    row = conn.execute(select(jobs.c.id, jobs.c.requires, jobs.c.priority).where(jobs.c.id == job_id, is_due()))
    return next((Front(*one) for one in row), None)


def with_needs(part: Any) -> ColumnElement[bool]:
    """Return the SQL condition for parts of the queue whose jobs need more than any one device."""
    found: ColumnElement[bool] = part.c.requires.contains("#")
    return found


#: Not a join: PostgreSQL would expect a thousand parts and read the whole table for them.
_IN_ORDER = (
    select(jobs.c.id, jobs.c.requires, jobs.c.priority)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(jobs.c.rank, jobs.c.id)
)


@cache
def _first_ids(*, are_all: bool) -> Select[Any]:
    """Return the query for the first due job of each part. Built once: building it takes longer than executing it."""
    part = queue_parts()
    first = (
        select(jobs.c.id)
        .where(jobs.c.requires == part.c.requires, jobs.c.priority == part.c.priority, is_due())
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(1)
        .correlate(part)
        .scalar_subquery()
    )
    found = select(first).select_from(part)
    return (
        found
        if are_all
        else found.where(or_(part.c.requires.in_(bindparam("parts", expanding=True)), with_needs(part)))
    )


def is_due() -> ColumnElement[bool]:
    """Return the SQL condition for queued jobs whose `run_at` has come."""
    return and_(jobs.c.state == QUEUED, jobs.c.run_at <= now_once())


def queue_parts() -> Any:
    """Return the requirements that queued jobs have, each with every priority: one search of the index for each."""
    queued = jobs.c.state == QUEUED
    present = select(func.min(jobs.c.requires).label("requires")).where(queued).cte("present", recursive=True)
    following = select(func.min(jobs.c.requires)).where(queued, jobs.c.requires > present.c.requires)
    present = present.union_all(
        select(following.correlate(present).scalar_subquery()).where(present.c.requires.is_not(None))
    )
    levels: CompoundSelect[Any] = union_all(
        *(select(literal_column(str(priority)).label("priority")) for priority in PRIORITIES)
    )
    level = levels.subquery("level")
    return select(present.c.requires, level.c.priority).select_from(present.join(level, true())).subquery("part")
