"""metrics: the points of a job's curves, thinned without losing a spike."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Subquery, func, or_, select

from shared.clock import iso
from shared.db.schema import metrics as table


def metrics(
    conn: Connection,
    job_id: str,
    name: str | None = None,
    after_step: int | None = None,
    max_points: int | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Points {name, step, epoch, value, at} by name and step.

    `max_points` (at least 4) is per name: a longer curve keeps its first and last point, and the lowest and highest of
    each of equally long stretches in between.
    """
    conditions = [table.c.job_id == job_id]
    if name is not None:
        conditions.append(table.c.name == name)
    if after_step is not None:
        conditions.append(table.c.step > after_step)
    if max_points is None:
        statement = select(*_POINT).where(*conditions).order_by(table.c.name, table.c.step)
    else:
        kept = _ranked(conditions, max(4, max_points))
        statement = (
            select(*(kept.c[column.name] for column in _POINT))
            .where(_worth_keeping(kept, max(4, max_points)))
            .order_by(kept.c.name, kept.c.step)
        )
    rows = conn.execute(statement.limit(limit) if limit is not None else statement)
    return [{**row._mapping, "at": iso(row.at)} for row in rows]


_POINT = (table.c.name, table.c.step, table.c.epoch, table.c.value, table.c.at)


def _ranked(conditions: list[Any], max_points: int) -> Subquery:
    by_step: dict[str, Any] = {"partition_by": table.c.name, "order_by": table.c.step}
    stretches = (
        select(
            *_POINT,
            func.count().over(partition_by=table.c.name).label("points"),
            func.row_number().over(**by_step).label("number"),
            func.ntile((max_points - 2) // 2).over(**by_step).label("stretch"),
        )
        .where(*conditions)
        .subquery()
    )
    within = [stretches.c.name, stretches.c.stretch]
    return select(
        stretches,
        func.row_number()
        .over(partition_by=within, order_by=[stretches.c.value, stretches.c.step])
        .label("from_lowest"),
        func.row_number()
        .over(partition_by=within, order_by=[stretches.c.value.desc(), stretches.c.step])
        .label("from_highest"),
    ).subquery()


def _worth_keeping(kept: Subquery, max_points: int) -> Any:
    return or_(
        kept.c.points <= max_points,
        kept.c.number == 1,
        kept.c.number == kept.c.points,
        kept.c.from_lowest == 1,
        kept.c.from_highest == 1,
    )
