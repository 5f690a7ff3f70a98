"""available_columns: the columns that a table of an owner's jobs can have, from the newest jobs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from nightshift.metrics import result_sense
from shared.db.schema import curve_summaries, jobs
from shared.jobs.ownership import of_owner
from shared.jobs.queries.columns import GROUPS, SHORT, leaves, parse_key

#: Jobs searched; columns of older ones can still be requested by name.
_NEWEST = 300


def available_columns(conn: Connection, owner_id: str | None) -> dict[str, list[str]]:
    """Return {metrics, best, settings, tags}: sorted keys for `columns.parse_key`."""
    newest = select(jobs.c.id, jobs.c.spec, jobs.c.tags, jobs.c.result).order_by(jobs.c.created_at.desc())
    settings: set[str] = set()
    tags: set[str] = set()
    results: set[str] = set()
    ids = []
    for row in conn.execute(newest.where(of_owner(owner_id)).limit(_NEWEST)):
        ids.append(row.id)
        settings |= leaves(row.spec or {}).keys()
        tags |= (row.tags or {}).keys()
        results |= _figures(row.result)
    curves = set(conn.scalars(select(curve_summaries.c.name).where(curve_summaries.c.job_id.in_(ids)).distinct()))
    return {
        "metrics": [_metric_key(name) for name in sorted(results | curves)],
        "best": [f"best.{name}" for name in sorted(curves) if result_sense(name)],
        "settings": sorted(name for name in settings if name.partition(".")[0] in GROUPS or name in SHORT),
        "tags": [f"tag.{name}" for name in sorted(tags) if '"' not in name],
    }


def _figures(result: dict[str, Any] | None) -> set[str]:
    measured = (result or {}).get("metrics") or {}
    return {name for name, value in measured.items() if isinstance(value, int | float)}


def _metric_key(name: str) -> str:
    return name if parse_key(name).what == "metric" else f"metric.{name}"
