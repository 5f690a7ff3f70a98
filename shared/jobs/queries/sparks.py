"""sparks: a small picture of each job's main curve, at a cost that does not grow with the curve's length.

The range of steps is cut into equal parts, and the index is asked for the first point of each: some thirty look-ups per
job, whether it has fifty points or five million. (`curves.metrics`, which keeps every spike, reads them all.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, BigInteger, Connection, Integer, String, and_, column, func, select, values

from shared.db.schema import metrics

#: The main curve is the first of these that a job has.
MAIN = ("loss", "g_loss", "val_loss", "samples_per_second")
#: Points of a picture that is about 90 pixels wide.
POINTS = 32


def sparks(conn: Connection, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """job -> {name, points: [[step, value], …]}; a job without a curve is left out."""
    if not job_ids:
        return {}
    ranges = _ranges(conn, job_ids)
    if not ranges:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for job_id, name, step, value in conn.execute(_samples(ranges)):
        points = found.setdefault(job_id, {"name": name, "points": []})["points"]
        if not points or points[-1][0] != step:
            points.append([step, value])
    return found


def _ranges(conn: Connection, job_ids: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """The main curve of each job that has one, with its first and last step."""
    wanted = (
        values(column("job_id", String), column("name", String), column("rank", Integer), name="candidates")
        .data([(job_id, name, rank) for job_id in job_ids for rank, name in enumerate(MAIN)])
        .cte("wanted")
    )
    same = and_(metrics.c.job_id == wanted.c.job_id, metrics.c.name == wanted.c.name)
    first = select(func.min(metrics.c.step)).where(same).correlate(wanted).scalar_subquery()
    last = select(func.max(metrics.c.step)).where(same).correlate(wanted).scalar_subquery()
    ends = select(wanted.c.job_id, wanted.c.name, wanted.c.rank, first.label("first"), last.label("last")).subquery()
    rows = conn.execute(select(ends).where(ends.c.first.is_not(None)).order_by(ends.c.job_id, ends.c.rank))
    best: dict[str, tuple[str, str, int, int]] = {}
    for row in rows:
        best.setdefault(row.job_id, (row.job_id, row.name, row.first, row.last))
    return list(best.values())


def _samples(ranges: Sequence[tuple[str, str, int, int]]) -> Any:
    starts = _starts(ranges)
    at_or_after = (
        select(func.min(metrics.c.step))
        .where(metrics.c.job_id == starts.c.job_id, metrics.c.name == starts.c.name, metrics.c.step >= starts.c.start)
        .correlate(starts)
        .scalar_subquery()
    )
    return (
        select(metrics.c.job_id, metrics.c.name, metrics.c.step, metrics.c.value)
        .select_from(starts)
        .join(
            metrics,
            and_(metrics.c.job_id == starts.c.job_id, metrics.c.name == starts.c.name, metrics.c.step == at_or_after),
        )
        .order_by(metrics.c.job_id, metrics.c.step)
    )


def _starts(ranges: Sequence[tuple[str, str, int, int]]) -> CTE:
    """One row per job and part of its range. The last part begins at the last step."""
    return (
        values(column("job_id", String), column("name", String), column("start", BigInteger), name="parts")
        .data(
            [
                (job_id, name, first + (last - first) * part // (POINTS - 1))
                for job_id, name, first, last in ranges
                for part in range(POINTS)
            ]
        )
        .cte("starts")
    )
