"""Queries of jobs: get_job, find_id, list_jobs, and their format in the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, or_, select

from nightshift.errors import Conflict, NotFound
from shared.clock import iso
from shared.db.rows import existing
from shared.db.schema import attempts, conformance_reports, jobs, sweep_trials
from shared.fleet.conformance import graded
from shared.jobs.ownership import of_owner
from shared.jobs.queries import cursors, search
from shared.jobs.queries.cursors import Page
from shared.jobs.queries.newest import newest_ids
from shared.specs.families import FAMILIES

_report = and_(conformance_reports.c.plugin == jobs.c.plugin, conformance_reports.c.record == jobs.c.plugin_record)
present_attempt = and_(attempts.c.job_id == jobs.c.id, attempts.c.fence == jobs.c.fence)


def _rows() -> Select[Any]:
    """Select jobs with the device and Celery task of their current attempt, and whether their plug-in is exact."""
    of_attempt = (attempts.c.device.label("attempt_device"), attempts.c.celery_task_id)
    return select(jobs, *of_attempt, conformance_reports.c.passed.label("conformant")).select_from(
        jobs.outerjoin(attempts, present_attempt).outerjoin(conformance_reports, _report)
    )


def get_job(conn: Connection, job_id: str, owner_id: str | None) -> RowMapping:
    """Return the job's row (for `job_view`). `owner_id` None sees all. Raises NotFound, also for foreign jobs."""
    statement = _rows().where(jobs.c.id == job_id, of_owner(owner_id))
    return existing(conn.execute(statement).mappings().one_or_none(), "job", job_id)


def find_id(conn: Connection, prefix: str, owner_id: str | None) -> str:
    """Return the id with this prefix. Raises NotFound, or Conflict if there are several."""
    statement = select(jobs.c.id).where(jobs.c.id >= prefix, jobs.c.id < prefix + "g", of_owner(owner_id))
    found = list(conn.scalars(statement.order_by(jobs.c.id).limit(4)))
    if not found or not prefix:
        raise NotFound.of("job", prefix)
    if len(found) > 1 and prefix not in found:
        raise Conflict(f"Several job ids begin with {prefix!r}: {', '.join(found[:3])}, …; give more of the id.")
    return str(found[0])


@dataclass(frozen=True)
class JobFilters:
    """Filters of `list_jobs`; empty means all."""

    states: tuple[str, ...] = ()
    kind: str | None = None
    family: str | None = None
    #: `key=value`, or `key` for any value.
    tag: str | None = None
    #: In the language of `queries.search`.
    search: str | None = None
    #: The id of the sweep whose trials they are.
    sweep: str | None = None


def list_jobs(
    conn: Connection,
    owner_id: str | None,
    filters: JobFilters | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Return a page of jobs (`job_view`), newest first. Raises MalformedRequest for a bad cursor."""
    filters = filters or JobFilters()
    conditions = _conditions(conn, filters)
    if cursor is not None:
        created_at, job_id = cursors.decode("jobs", cursor, float, str)
        older = or_(jobs.c.created_at < created_at, and_(jobs.c.created_at == created_at, jobs.c.id < job_id))
        conditions += [jobs.c.created_at <= created_at, older]
    statement = _rows().order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
    if filters.states and not filters.search:
        ids = newest_ids(conn, owner_id, filters.states, conditions, limit + 1)
        statement = statement.where(jobs.c.id.in_(ids))
    else:
        in_states = [jobs.c.state.in_(filters.states)] if filters.states else []
        statement = statement.where(of_owner(owner_id), *in_states, *conditions).limit(limit + 1)
    rows = conn.execute(statement).mappings().all()
    return cursors.page("jobs", rows, limit, ("created_at", "id"), job_view)


def _conditions(conn: Connection, filters: JobFilters) -> list[Any]:
    """Return the conditions but those by state."""
    conditions: list[Any] = []
    if filters.kind is not None:
        conditions.append(jobs.c.kind == filters.kind)
    if filters.family is not None:
        conditions.append(jobs.c.family == filters.family)
    if filters.tag is not None:
        conditions.append(search.tagged(filters.tag, conn.dialect.name))
    if filters.sweep is not None:
        of_sweep = select(sweep_trials.c.job_id).where(sweep_trials.c.sweep_id == filters.sweep)
        conditions.append(jobs.c.id.in_(of_sweep))
    return conditions + search.conditions(filters.search or "", conn.dialect.name, filters.kind)


def list_shards(conn: Connection, job_id: str) -> list[dict[str, Any]]:
    """Return the shards of a job (`job_view`), in the order of their rows; empty: it is not divided."""
    rows = conn.execute(_rows().where(jobs.c.part_of == job_id)).mappings()
    return sorted(map(job_view, rows), key=lambda view: view["shard"] or 0)


def job_by_task(conn: Connection, celery_task_id: str) -> RowMapping | None:
    """Return the job of a Celery task, with `attempt_fence` and `attempt_outcome` of its attempt (for Flower)."""
    statement = (
        select(
            jobs,
            attempts.c.device.label("attempt_device"),
            attempts.c.celery_task_id,
            attempts.c.fence.label("attempt_fence"),
            attempts.c.outcome.label("attempt_outcome"),
        )
        .join(attempts, attempts.c.job_id == jobs.c.id)
        .where(attempts.c.celery_task_id == celery_task_id)
        .order_by(attempts.c.started_at.desc())
        .limit(1)
    )
    return conn.execute(statement).mappings().one_or_none()


_SHOWN_AS_IS = ("id", "kind", "name", "state", "family", "framework", "dataset", "priority")
_PROGRESS = ("step", "total_steps", "epoch", "percent", "eta_seconds", "samples_per_second")


def job_view(row: Mapping[str, Any] | RowMapping) -> dict[str, Any]:
    """Return a job in the API's format. Times are RFC 3339; `device` is the attempt's once there is one."""
    progress = row["progress"]
    return {
        **{column: row[column] for column in _SHOWN_AS_IS},
        "attempt": row["fence"],
        "progress": {**dict.fromkeys(_PROGRESS), **progress} if progress is not None else None,
        "stop_requested": row["stop_requested"],
        **{name: iso(row[name]) for name in ("created_at", "run_at", "started_at", "finished_at", "deadline_at")},
        "archived_at": iso(row["archived_at"]),
        "worker": row["worker"],
        "device": row.get("attempt_device") or row["device"],
        "error": row["error"],
        "result": row["result"],
        "retries": row["retries"],
        "after": row["after"],
        "part_of": row["part_of"],
        "shard": _number_of(row),
        "shards": (row["pinned"] or {}).get("shards"),
        "tags": row["tags"],
        "notes": row["notes"],
        "copied_from": row["copied_from"],
        "pinned": _pinned_view(row["pinned"]),
        "promise": _promise(row),
        "sweep": (row["pinned"] or {}).get("sweep"),
        "spec": row["spec"],
    }


def _number_of(row: Mapping[str, Any] | RowMapping) -> int | None:
    """Return which of the shards the job is, from 1."""
    place = (row["pinned"] or {}).get("shard")
    return None if place is None else place + 1


def _promise(row: Mapping[str, Any] | RowMapping) -> str | None:
    """Return what a resumed run of the job is worth; None: not known before its first attempt."""
    if row["family"] and FAMILIES.is_builtin(row["family"]):
        return graded(None, is_green=True)
    pinned = (row["pinned"] or {}).get("plugin")
    return graded(pinned.get("promise"), is_green=bool(row.get("conformant"))) if pinned else None


def _pinned_view(pinned: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of data set, evaluation set, model and program that the first attempt resolved."""
    found = {key: pinned[key] for key in ("dataset", "evaluate_on") if key in pinned}
    if plugin := pinned.get("plugin"):
        found["package"] = plugin["package"]
    if parent := pinned.get("parent"):
        found["model"] = f"{parent['name']}@{parent['version']}" if parent.get("name") else parent["ref"]
    return found
