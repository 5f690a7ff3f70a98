"""The table of jobs: filtered, searched, sorted, one numbered page at a time, with the total count.

Numbered pages allow going to the last one, but need a count. Without a filter, or with one by kind or state, it is kept
(`shared.db.counters`); with others up to MOST_COUNTED jobs are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, select

from nightshift.metrics import headline
from nightshift.names import SHARD
from nightshift.states import JobState
from shared.clock import db_now, iso
from shared.db.counters import DATASETS, JOBS, counted, kept_for
from shared.db.schema import attempts, counters, jobs
from shared.fleet.keys import owner_names
from shared.jobs.queries import search
from shared.jobs.queries.columns import ColumnKey, parse_key, shown_values, summaries_of, value_of
from shared.jobs.queries.jobs import present_attempt
from shared.jobs.queries.newest import newest_ids
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


#: Most jobs that are counted and have pages, with filters that have no counter. Too low: the last page is soon out of
#: reach. Too high: a page takes longer.
MOST_COUNTED = 10_000
#: Most data sets that a filter offers.
MOST_DATASETS = 200


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
    """Return {items, total, more, page, pages, counts: {state: n}, more_counts}.

    `counts` ignore the filter by state, so each is the total that state would have. `more` and `more_counts` say that
    there are more jobs than `total` or `counts` says. A page past the end returns the last page.
    """
    conditions = _conditions(conn, owner_id, query)
    counts, more_counts = _counts(conn, owner_id, query, conditions)
    if query.states:
        conditions.append(jobs.c.state.in_(query.states))
    more = more_counts
    if more_counts:  # of the jobs that were counted, none may have these states
        total, more = _total(conn, conditions)
    else:
        total = sum(counts[state] for state in query.states) if query.states else sum(counts.values())
    pages = max(1, -(-total // query.limit))
    page = min(query.page, pages)
    items = _rows(conn, owner_id, conditions, query, (page - 1) * query.limit) if total else []
    found = {"items": items, "total": total, "more": more, "page": page, "pages": pages}
    return found | {"counts": counts, "more_counts": more_counts}


def matching(conn: Connection, owner_id: str | None, query: TableQuery) -> tuple[list[str], int]:
    """Return the ids of a page, and the number on all pages, up to MOST_COUNTED."""
    conditions = _conditions(conn, owner_id, query)
    if query.states:
        conditions.append(jobs.c.state.in_(query.states))
    total, _ = _total(conn, conditions)
    return _ids(conn, owner_id, conditions, query, (query.page - 1) * query.limit), total


def _counts(
    conn: Connection, owner_id: str | None, query: TableQuery, conditions: list[Any]
) -> tuple[dict[str, int], bool]:
    """Return the number of jobs in each state, and whether there are more."""
    counts = dict.fromkeys((state.value for state in JobState), 0)
    if not (query.family or query.framework or query.dataset or query.search):
        kind = (counters.c.detail != SHARD if query.kind is None else counters.c.detail == query.kind,)
        kept = counted(conn, JOBS, "label", where=and_(kept_for(owner_id), *kind))
        return counts | {row.label: row.n for row in kept}, False
    some = select(jobs.c.state).where(*conditions).limit(MOST_COUNTED + 1).subquery()
    found = conn.execute(select(some.c.state, func.count()).group_by(some.c.state))
    counts |= {row[0]: row[1] for row in found}
    return counts, sum(counts.values()) > MOST_COUNTED


def _total(conn: Connection, conditions: list[Any]) -> tuple[int, bool]:
    some = select(jobs.c.id).where(*conditions).limit(MOST_COUNTED + 1).subquery()
    total = conn.scalar(select(func.count()).select_from(some)) or 0
    return min(total, MOST_COUNTED), total > MOST_COUNTED


def datasets_used(conn: Connection, owner_id: str | None) -> list[str]:
    """Return the names of data sets to offer in a filter."""
    used = counted(conn, DATASETS, "label", where=kept_for(owner_id))
    return [row.label for row in used[:MOST_DATASETS]]


def _conditions(conn: Connection, owner_id: str | None, query: TableQuery) -> list[Any]:
    same = {
        jobs.c.owner_id: owner_id, jobs.c.kind: query.kind, jobs.c.family: query.family,
        jobs.c.framework: query.framework, jobs.c.dataset: query.dataset,
    }  # fmt: skip
    conditions: list[Any] = [column == value for column, value in same.items() if value is not None]
    return conditions + search.conditions(query.search or "", conn.dialect.name, query.kind)


def _ids(conn: Connection, owner_id: str | None, conditions: list[Any], query: TableQuery, offset: int) -> list[str]:
    """Select only ids, so that the sort handles narrow rows and only a page's jobs are read in full."""
    last = offset + query.limit
    if query.states and query.sort == "created" and query.descending and not query.search and last <= MOST_COUNTED:
        return newest_ids(conn, owner_id, query.states, conditions, last)[offset:]
    statement = select(jobs.c.id).where(*conditions).order_by(*_order(conn, query))
    return list(conn.scalars(statement.limit(query.limit).offset(offset)))


def _rows(
    conn: Connection, owner_id: str | None, conditions: list[Any], query: TableQuery, offset: int
) -> list[dict[str, Any]]:
    ids = _ids(conn, owner_id, conditions, query, offset)
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
        ordered = key.desc() if query.descending else key
        # Elsewhere no value is missing, and PostgreSQL would sort all rows instead of reading an index backward.
        return [ordered.nulls_last() if query.sort == "duration" else ordered, last]
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
