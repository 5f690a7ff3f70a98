"""sparklines: a coarse version of each job's main curve, at a cost independent of the curve's length.

The range of steps is divided into equal parts, and the first point of each is looked up by the index: some thirty
look-ups per job, for fifty points or five million. (`curves.metrics`, which keeps spikes, reads all points.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, Connection, and_, case, exists, func, literal, select

from nightshift.metrics import main_curves
from shared.db.schema import jobs, metrics

#: Points of a picture that is about 90 pixels wide.
POINTS = 32


def sparklines(conn: Connection, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return {name, points: [[step, value], …]} of each job that has a curve."""
    found: dict[str, dict[str, Any]] = {}
    for job_id, name, step, value in conn.execute(_samples(job_ids)) if job_ids else ():
        points = found.setdefault(job_id, {"name": name, "points": []})["points"]
        if not points or points[-1][0] != step:
            points.append([step, value])
    return found


def _samples(job_ids: Sequence[str]) -> Any:
    chosen = _chosen(_ends(_main_curves(job_ids)), _parts())
    value = select(metrics.c.value).where(_of_curve(chosen), metrics.c.step == chosen.c.step).correlate(chosen)
    return select(chosen, value.scalar_subquery()).order_by(chosen.c.job_id, chosen.c.step)


# Materialized, because every row of the next expression reads the previous one again.


def _main_curves(job_ids: Sequence[str]) -> CTE:
    has = [
        (exists().where(metrics.c.job_id == jobs.c.id, metrics.c.name == name), literal(name)) for name in main_curves()
    ]
    curve = select(jobs.c.id.label("job_id"), case(*has).label("name")).where(jobs.c.id.in_(job_ids))
    return curve.cte("curves").prefix_with("MATERIALIZED")


def _ends(curves: CTE) -> CTE:
    """Select the first and last step of each curve, by one look-up each."""
    first, last = (
        select(extreme(metrics.c.step)).where(_of_curve(curves)).correlate(curves).scalar_subquery()
        for extreme in (func.min, func.max)
    )
    ends = select(curves.c.job_id, curves.c.name, first.label("first"), last.label("last"))
    return ends.where(curves.c.name.is_not(None)).cte("ends").prefix_with("MATERIALIZED")


def _chosen(ends: CTE, parts: CTE) -> CTE:
    """Select the first step of each part. Not a join, which a planner may reorder and then read whole curves."""
    start = ends.c.first + (ends.c.last - ends.c.first) * parts.c.number // (POINTS - 1)
    step = select(func.min(metrics.c.step)).where(_of_curve(ends), metrics.c.step >= start).correlate(ends, parts)
    chosen = select(ends.c.job_id, ends.c.name, step.scalar_subquery().label("step"))
    return chosen.select_from(ends.join(parts, literal(True))).cte("chosen").prefix_with("MATERIALIZED")


def _parts() -> CTE:
    """Select 0 … POINTS - 1; the last part begins at the last step."""
    parts = select(literal(0).label("number")).cte("parts", recursive=True)
    return parts.union_all(select(parts.c.number + 1).where(parts.c.number < POINTS - 1))


def _of_curve(curves: CTE) -> Any:
    return and_(metrics.c.job_id == curves.c.job_id, metrics.c.name == curves.c.name)
