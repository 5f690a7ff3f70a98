"""The table of jobs: filtered, searched, sorted, one numbered page at a time, with the total count.

Numbered pages allow going to the last one, but cost a count: milliseconds at ten thousand jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from nightshift.metrics import headline
from nightshift.states import JobState
from shared.clock import db_now, iso
from shared.db.schema import attempts, jobs
from shared.fleet.keys import owner_names
from shared.jobs.ownership import of_owner
from shared.jobs.queries import search
from shared.jobs.queries.columns import ColumnKey, parse_key, shown_values, summaries_of, value_of
from shared.jobs.queries.jobs import present_attempt
from shared.jobs.queries.sparklines import sparklines

#: Sort keys, in addition to the columns of `queries.columns`.
SORTS: dict[str, Any] = {
    "created": jobs.c.created_at,
    "name": func.lower(func.coalesce(jobs.c.name, jobs.c.id)),
    "state": jobs.c.state,
    "kind": jobs.c.kind,
    "model": func.coalesce(jobs.c.family, ""),
    "dataset": func.coalesce(jobs.c.dataset, ""),
    "priority": jobs.c.priority,
    "duration": func.coalesce(jobs.c.finished_at, db_now()) - jobs.c.started_at,
}


@dataclass(frozen=True)
class TableQuery:
    """Filters, search, order and page of a table; an empty filter selects all."""

    states: tuple[str, ...] = ()
    kind: str | None = None
    family: str | None = None
    framework: str | None = None
    dataset: str | None = None
    #: In the syntax of `queries.search`.
    search: str | None = None
    #: One of SORTS, or a column of `queries.columns`.
    sort: str = "created"
    descending: bool = True
    #: Shown in addition to the fixed columns.
    columns: tuple[ColumnKey, ...] = ()
    page: int = 1
    limit: int = 25


def jobs_table(conn: Connection, owner_id: str | None, query: TableQuery) -> dict[str, Any]:
    """Return {items, total, page, pages, counts: {state: n}}.

    `counts` ignore the filter by state, so each is the total that state would have. A page past the end returns the
    last page.
    """
    conditions = _conditions(conn, owner_id, query)
    counts = dict.fromkeys((state.value for state in JobState), 0)
    counted = conn.execute(select(jobs.c.state, func.count()).where(*conditions).group_by(jobs.c.state))
    counts |= {row[0]: row[1] for row in counted}
    total = sum(counts[state] for state in query.states) if query.states else sum(counts.values())
    pages = max(1, -(-total // query.limit))
    page = min(query.page, pages)
    if query.states:
        conditions.append(jobs.c.state.in_(query.states))
    items = _rows(conn, conditions, query, (page - 1) * query.limit) if total else []
    return {"items": items, "total": total, "page": page, "pages": pages, "counts": counts}


def matching(conn: Connection, owner_id: str | None, query: TableQuery) -> tuple[list[str], int]:
    """Return the ids of a page, and the number on all pages."""
    conditions = _conditions(conn, owner_id, query)
    if query.states:
        conditions.append(jobs.c.state.in_(query.states))
    total = conn.scalar(select(func.count()).select_from(jobs).where(*conditions)) or 0
    return _ids(conn, conditions, query, (query.page - 1) * query.limit), total


def datasets_used(conn: Connection, owner_id: str | None) -> list[str]:
    """Return the names of data sets to offer in a filter."""
    named = select(jobs.c.dataset).where(jobs.c.dataset.is_not(None), of_owner(owner_id))
    return list(conn.scalars(named.distinct().order_by(jobs.c.dataset).limit(200)))


def _conditions(conn: Connection, owner_id: str | None, query: TableQuery) -> list[Any]:
    same = {
        jobs.c.owner_id: owner_id, jobs.c.kind: query.kind, jobs.c.family: query.family,
        jobs.c.framework: query.framework, jobs.c.dataset: query.dataset,
    }  # fmt: skip
    conditions: list[Any] = [column == value for column, value in same.items() if value is not None]
    return conditions + search.conditions(query.search or "", conn.dialect.name)


def _ids(conn: Connection, conditions: list[Any], query: TableQuery, offset: int) -> list[str]:
    """Select only ids, so that the sort handles narrow rows and only a page's jobs are read in full."""
    statement = select(jobs.c.id).where(*conditions).order_by(*_order(conn, query))
    return list(conn.scalars(statement.limit(query.limit).offset(offset)))


def _rows(conn: Connection, conditions: list[Any], query: TableQuery, offset: int) -> list[dict[str, Any]]:
    ids = _ids(conn, conditions, query, offset)
    whole = conn.execute(
        select(jobs, attempts.c.device.label("attempt_device"))
        .select_from(jobs.outerjoin(attempts, present_attempt))
        .where(jobs.c.id.in_(ids))
    )
    found = {row["id"]: dict(row) for row in whole.mappings()}
    curves = sparklines(conn, ids)
    names = owner_names(conn, {row["owner_id"] for row in found.values()})
    rows = [found[job_id] for job_id in ids if job_id in found]
    values = shown_values(rows, query.columns, _summaries(conn, ids, query.columns))
    views = [_view(row, curves.get(row["id"]), names) for row in rows]
    return [view | {"values": more} for view, more in zip(views, values, strict=True)]


def _order(conn: Connection, query: TableQuery) -> list[Any]:
    last = jobs.c.id.desc() if query.descending else jobs.c.id
    if query.sort in SORTS:
        key = SORTS[query.sort]
        return [(key.desc() if query.descending else key).nulls_last(), last]
    return [*value_of(parse_key(query.sort), conn.dialect.name).order(query.descending), last]


def _summaries(conn: Connection, ids: list[str], columns: tuple[ColumnKey, ...]) -> dict[tuple[str, str], Any]:
    statement = summaries_of(ids, columns)
    return {} if statement is None else {(row.job_id, row.name): row for row in conn.execute(statement)}


_SHOWN_AS_IS = ("id", "kind", "name", "state", "family", "framework", "dataset", "priority", "stop_requested", "worker")
_PROGRESS = ("step", "total_steps", "epoch", "percent", "eta_seconds")


def _view(row: Mapping[str, Any], curve: dict[str, Any] | None, names: dict[str, str]) -> dict[str, Any]:
    progress, spec = row["progress"] or {}, row["spec"] or {}
    return {
        **{column: row[column] for column in _SHOWN_AS_IS},
        "attempt": row["fence"],
        "model": (spec.get("model") or {}).get("preset") or spec.get("model_ref") or spec.get("program"),
        "device": row["attempt_device"] or row["device"],
        "progress": {name: progress.get(name) for name in _PROGRESS} if progress else None,
        **{name: iso(row[name]) for name in ("created_at", "run_at", "started_at", "finished_at")},
        "error": row["error"],
        "tags": row["tags"],
        "archived": row["archived_at"] is not None,
        "who": names.get(row["owner_id"], row["owner_id"]),
        "headline": _headline(row["result"] or {}, curve),
        "spark": curve,
    }


def _headline(result: dict[str, Any], curve: dict[str, Any] | None) -> dict[str, Any] | None:
    measured = result.get("metrics") or {}
    if name := headline(measured):
        return {"name": name, "value": measured[name]}
    return {"name": curve["name"], "value": curve["points"][-1][1]} if curve else None
