"""Comparison of jobs: their curves, results and settings.

The URL lists their ids, or the search of the table of jobs that selects them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from api.flower.pages.base import Handler
from api.flower.pages.job import MAX_POINTS, kept_curves
from api.flower.pages.jobs import table_query
from nightshift.errors import InvalidRequest, NotFound
from nightshift.metrics import result_sense
from shared.jobs.queries.comparison import comparison as side_by_side
from shared.jobs.queries.table import TableQuery, matching

#: Jobs whose curves are overlaid: the number of distinguishable colors.
MAX_CURVES = 12
#: Jobs in the table and the charts.
MAX_COMPARED = 100


async def comparison(handler: Handler) -> dict[str, Any]:
    """Return the data of the jobs that the URL selects."""
    ids, query = ids_argument(handler), None
    if handler.text_argument("all"):
        query = replace(table_query(handler), columns=(), page=1, limit=MAX_COMPARED)
    return await handler.query(lambda conn: compared(conn, ids, query, handler.owner))


def ids_argument(handler: Handler) -> list[str]:
    """Return the job ids of `?ids=`. Raises InvalidRequest."""
    ids = list(dict.fromkeys(filter(None, (handler.text_argument("ids", 2_000) or "").split(","))))
    if len(ids) > MAX_COMPARED:
        raise InvalidRequest.field(("ids",), f"at most {MAX_COMPARED} jobs can be compared at once")
    return ids


def compared(conn: Connection, ids: list[str], query: TableQuery | None, owner: str | None) -> dict[str, Any]:
    """Return {jobs, senses: {metric: max | min}, most, curves, matching}; the first jobs have curves.

    Raises NotFound.
    """
    found, total = (ids, len(ids)) if query is None else matching(conn, owner, query)
    shown = side_by_side(conn, found, owner)
    if found and not shown:
        raise NotFound.of("job", found[0])
    points = max(100, MAX_POINTS * 2 // max(1, min(len(shown), MAX_CURVES)))
    for job in shown[:MAX_CURVES]:
        job["curves"] = kept_curves(conn, job, points)
    names = {name for job in shown for name in job["results"]}
    senses = {name: better for name in sorted(names) if (better := result_sense(name))}
    return {"jobs": shown, "senses": senses, "most": MAX_COMPARED, "curves": MAX_CURVES, "matching": total}
