"""metrics, curves: the points of a job's curves, downsampled without losing spikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, BigInteger, Connection, Row, func, literal, select, tuple_, union

from shared.clock import iso
from shared.db.schema import metrics as table

_POINT = (table.c.name, table.c.step, table.c.epoch, table.c.value, table.c.at)


def metrics(
    conn: Connection,
    job_id: str,
    name: str | None = None,
    after_step: int | None = None,
    max_points: int | None = None,
    limit: int | None = None,
    after: tuple[Any, ...] | None = None,
) -> list[dict[str, Any]]:
    """Return points {name, step, epoch, value, at} by name and step, after the (name, step) `after`.

    `max_points` (at least 4) is per name: a longer curve keeps its first and last point, and the minimum and maximum of
    each of several equal stretches in between.
    """
    conditions = [table.c.job_id == job_id]
    if name is not None:
        conditions.append(table.c.name == name)
    if after_step is not None:
        conditions.append(table.c.step > after_step)
    if after is not None:
        conditions.append(tuple_(table.c.name, table.c.step) > after)
    if max_points is None:
        rows: Sequence[Row[Any]] = conn.execute(_points(*conditions).limit(limit)).all()
    else:
        rows = _thinned(conn, conditions, max(4, max_points))[:limit]
    return [{**row._mapping, "at": iso(row.at)} for row in rows]


def curves(conn: Connection, job_id: str, max_points: int) -> dict[str, dict[str, list[Any]]]:
    """Return every curve as columns for charts: name -> {step, epoch, value, at}; `at` in seconds.

    They are downsampled as in `metrics`.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for name, *point in map(tuple, _thinned(conn, [table.c.job_id == job_id], max(4, max_points))):
        columns = found.setdefault(name, {"step": [], "epoch": [], "value": [], "at": []})
        for column, value in zip(columns.values(), point, strict=True):
            column.append(value)
    return found


def _points(*conditions: Any) -> Any:
    return select(*_POINT).where(*conditions).order_by(table.c.name, table.c.step)


def _thinned(conn: Connection, conditions: list[Any], max_points: int) -> list[Row[Any]]:
    rows: list[Row[Any]] = []
    for name in _names(conn, conditions):
        of_curve = [*conditions, table.c.name == name]
        first_ones = select(table.c.step).where(*of_curve).limit(max_points + 1).subquery()
        is_short = (conn.scalar(select(func.count()).select_from(first_ones)) or 0) <= max_points
        rows += conn.execute(_points(*of_curve) if is_short else _long(conn, of_curve, (max_points - 2) // 2))
    return rows


def _names(conn: Connection, conditions: list[Any]) -> list[str]:
    """Return the distinct names by index look-ups, one per name, not per point."""
    names: list[str] = []
    while True:
        beyond = [table.c.name > names[-1]] if names else []
        name = conn.scalar(select(func.min(table.c.name)).where(*conditions, *beyond))
        if name is None:
            return names
        names.append(name)


def _long(conn: Connection, of_curve: list[Any], stretches: int) -> Any:
    """Return a statement that downsamples a long curve in two passes without sorting.

    The first pass finds the extremes of each stretch, the second the first step with each extreme.
    """
    first = conn.scalars(select(func.min(table.c.step)).where(*of_curve)).one()
    last = conn.scalars(select(func.max(table.c.step)).where(*of_curve)).one()
    width = -(-(last - first + 1) // stretches)
    number = (table.c.step - first) // width
    extremes = (
        select(
            (first + number * width).label("start"),
            func.min(table.c.value).label("low"),
            func.max(table.c.value).label("high"),
        )
        .where(*of_curve)
        .group_by(number)
        .cte("extremes")
    )
    steps = [_step_of(of_curve, extremes, extreme, width) for extreme in ("low", "high")]
    ends = [select(literal(step, BigInteger).label("step")) for step in (first, last)]
    return _points(*of_curve, table.c.step.in_(union(*steps, *ends)))


def _step_of(of_curve: list[Any], extremes: CTE, extreme: str, width: int) -> Any:
    inside = (table.c.step >= extremes.c.start, table.c.step < extremes.c.start + width)
    step = (
        select(table.c.step)
        .where(*of_curve, *inside, table.c.value == extremes.c[extreme])
        .order_by(table.c.step)
        .limit(1)
        .correlate(extremes)
    )
    return select(step.scalar_subquery().label("step")).select_from(extremes)
