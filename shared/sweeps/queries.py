"""Read-only queries of sweeps, their trials and events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, Select, and_, func, or_, select, true

from nightshift.errors import Conflict, NotFound
from shared.clock import iso
from shared.db.rows import existing
from shared.db.schema import curve_summaries, jobs, metrics, sweep_events, sweep_trials, sweeps
from shared.jobs.queries import cursors
from shared.jobs.queries.cursors import Page
from shared.sweeps.models import TrialState

_RUNNING = TrialState.RUNNING.value
#: Newest events that a sweep is shown with.
EVENTS = 100


def owned_by(owner_id: str | None) -> Any:
    """Return the condition for sweeps of an owner; None: of all owners."""
    return sweeps.c.owner_id == owner_id if owner_id is not None else true()


def find_id(conn: Connection, prefix: str, owner_id: str | None) -> str:
    """Return the id with this prefix. Raises NotFound, also for another owner's; Conflict if there are several."""
    statement = select(sweeps.c.id).where(sweeps.c.id >= prefix, sweeps.c.id < prefix + "g", owned_by(owner_id))
    found = list(conn.scalars(statement.order_by(sweeps.c.id).limit(2)))
    if not found:
        raise NotFound.of("sweep", prefix)
    if len(found) > 1:
        raise Conflict(f"Several sweep ids begin with {prefix!r}; give more of the id.")
    return str(found[0])


def _counted() -> Select[Any]:
    """Select sweeps with the numbers of their trials that run and that have ended, and the best value."""
    per_state = (
        select(
            sweep_trials.c.sweep_id,
            func.sum((sweep_trials.c.state == _RUNNING).cast(sweeps.c.started.type)).label("running"),
            func.sum((sweep_trials.c.state == TrialState.PRUNED.value).cast(sweeps.c.started.type)).label("pruned"),
            func.sum((sweep_trials.c.state == TrialState.FAILED.value).cast(sweeps.c.started.type)).label("failed"),
        )
        .group_by(sweep_trials.c.sweep_id)
        .subquery()
    )
    best = sweep_trials.alias("best_trial")
    return select(
        sweeps, per_state.c.running, per_state.c.pruned, per_state.c.failed, best.c.value.label("best_value")
    ).select_from(
        sweeps.outerjoin(per_state, per_state.c.sweep_id == sweeps.c.id).outerjoin(
            best, and_(best.c.sweep_id == sweeps.c.id, best.c.number == sweeps.c.best)
        )
    )


def get_sweep(conn: Connection, sweep_id: str, owner_id: str | None) -> RowMapping:
    """Return a sweep's row for `sweep_view`. Raises NotFound."""
    statement = _counted().where(sweeps.c.id == sweep_id, owned_by(owner_id))
    return existing(conn.execute(statement).mappings().one_or_none(), "sweep", sweep_id)


def list_sweeps(conn: Connection, owner_id: str | None, cursor: str | None = None, limit: int = 50) -> Page:
    """Return a page of sweeps (`sweep_view`), newest first. Raises MalformedRequest for a bad cursor."""
    conditions = [owned_by(owner_id)]
    if cursor is not None:
        created_at, sweep_id = cursors.decode("sweeps", cursor, float, str)
        same = and_(sweeps.c.created_at == created_at, sweeps.c.id < sweep_id)
        conditions.append(or_(sweeps.c.created_at < created_at, same))
    statement = _counted().where(*conditions).order_by(sweeps.c.created_at.desc(), sweeps.c.id.desc())
    rows = conn.execute(statement.limit(limit + 1)).mappings().all()
    return cursors.page("sweeps", rows, limit, ("created_at", "id"), sweep_view)


_SHOWN_AS_IS = (
    "id", "name", "state", "job", "space", "trials", "concurrency", "sampler", "pruner", "seed", "on_best", "started",
    "best", "best_value", "importance", "outcome",
)  # fmt: skip


def sweep_view(row: RowMapping) -> dict[str, Any]:
    """Return a sweep in the API's format."""
    return {
        **{column: row[column] for column in _SHOWN_AS_IS},
        "objective": {"metric": row["metric"], "direction": row["direction"]},
        **{name: int(row[name] or 0) for name in ("running", "pruned", "failed")},
        "created_at": iso(row["created_at"]),
        "finished_at": iso(row["finished_at"]),
    }


def trials(conn: Connection, sweep_id: str) -> list[dict[str, Any]]:
    """Return the trials in the API's format, in order, with the states and progress of their jobs."""
    statement = (
        select(sweep_trials, jobs.c.state.label("job_state"), jobs.c.progress)
        .select_from(sweep_trials.outerjoin(jobs, jobs.c.id == sweep_trials.c.job_id))
        .where(sweep_trials.c.sweep_id == sweep_id)
        .order_by(sweep_trials.c.number)
    )
    return [_trial_view(row) for row in conn.execute(statement).mappings()]


def _trial_view(row: RowMapping) -> dict[str, Any]:
    shown = {name: row[name] for name in ("number", "params", "state", "pruning", "value", "reason", "job_state")}
    return {
        **shown,
        "job_id": row["job_id"] if "/" not in row["job_id"] else None,  # its job was refused
        "steps": row["steps"] if row["state"] != _RUNNING else (row["progress"] or {}).get("step"),
        "percent": (row["progress"] or {}).get("percent") if row["state"] == _RUNNING else None,
        "reports": len(row["reports"]),
        "started_at": iso(row["started_at"]),
        "ended_at": iso(row["ended_at"]),
    }


def events(conn: Connection, sweep_id: str) -> list[dict[str, Any]]:
    """Return the newest events, oldest first."""
    columns = (sweep_events.c.seq, sweep_events.c.type, sweep_events.c.at, sweep_events.c.data)
    newest = select(*columns).where(sweep_events.c.sweep_id == sweep_id).order_by(sweep_events.c.seq.desc())
    rows = conn.execute(newest.limit(EVENTS)).mappings().all()
    return [{**row, "at": iso(row["at"])} for row in reversed(rows)]


def queued_jobs(conn: Connection, sweep_id: str) -> dict[str, str]:
    """Return the device and id of a queued job of the running trials, one for each device."""
    statement = (
        select(jobs.c.device, func.min(jobs.c.id))
        .join(sweep_trials, sweep_trials.c.job_id == jobs.c.id)
        .where(sweep_trials.c.sweep_id == sweep_id, sweep_trials.c.state == _RUNNING, jobs.c.state == "queued")
        .group_by(jobs.c.device)
    )
    return {str(device): str(job_id) for device, job_id in conn.execute(statement)}


# -- maintenance ----------------------------------------------------------------------------------


def active_ids(conn: Connection) -> list[str]:
    """Return the sweeps that maintenance has to look at: unfinished ones, and those with a trial that runs."""
    running = select(sweep_trials.c.sweep_id).where(sweep_trials.c.state == _RUNNING)
    unfinished = select(sweeps.c.id).where(sweeps.c.finished_at.is_(None))
    return sorted(str(sweep_id) for sweep_id in conn.scalars(unfinished.union(running)))


def row_of(conn: Connection, sweep_id: str) -> Row[*tuple[Any, ...]] | None:
    """Return the row of a sweep, None if it was deleted."""
    return conn.execute(select(sweeps).where(sweeps.c.id == sweep_id)).one_or_none()


def trial_rows(conn: Connection, sweep_id: str) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the rows of all trials, in order."""
    mine = select(sweep_trials).where(sweep_trials.c.sweep_id == sweep_id)
    return conn.execute(mine.order_by(sweep_trials.c.number)).all()


def unsettled(conn: Connection, sweep: Any) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the trials that run, with what `shared.sweeps.results.ended` needs of their jobs."""
    curve = and_(curve_summaries.c.job_id == sweep_trials.c.job_id, curve_summaries.c.name == sweep.metric)
    told = (jobs.c.state.label("job_state"), jobs.c.stop_requested, jobs.c.result, jobs.c.error, jobs.c.progress)
    statement = (
        select(sweep_trials.c.number, sweep_trials.c.pruning, *told, curve_summaries.c.last)
        .select_from(sweep_trials.outerjoin(jobs, jobs.c.id == sweep_trials.c.job_id).outerjoin(curve_summaries, curve))
        .where(sweep_trials.c.sweep_id == sweep.id, sweep_trials.c.state == _RUNNING)
    )
    return conn.execute(statement.order_by(sweep_trials.c.number)).all()


def running_trials(conn: Connection, sweep_id: str, *, held: bool = False) -> int:
    """Return the number of trials that run; with `held`, of those whose jobs a pause has asked to pause."""
    conditions = [sweep_trials.c.sweep_id == sweep_id, sweep_trials.c.state == _RUNNING]
    if held:
        conditions.append(sweep_trials.c.held)
    return conn.scalar(select(func.count()).select_from(sweep_trials).where(*conditions)) or 0


def points(conn: Connection, job_id: str, metric: str, after_step: int, limit: int) -> list[tuple[int, float]]:
    """Return the next points (step, value) of a job's curve."""
    table = metrics.c
    mine = (table.job_id == job_id, table.name == metric, table.step > after_step)
    rows = conn.execute(select(table.step, table.value).where(*mine).order_by(table.step).limit(limit))
    return [(row.step, row.value) for row in rows]


def has_points(conn: Connection, sweep_id: str, metric: str) -> bool:
    """Return whether a running trial has a point of its curve that the pruner has not seen."""
    newer = and_(
        curve_summaries.c.job_id == sweep_trials.c.job_id,
        curve_summaries.c.name == metric,
        curve_summaries.c.step > sweep_trials.c.reported_step,
    )
    mine = (sweep_trials.c.sweep_id == sweep_id, sweep_trials.c.state == _RUNNING, sweep_trials.c.pruning.is_(False))
    statement = select(sweep_trials.c.number).select_from(sweep_trials.join(curve_summaries, newer)).where(*mine)
    return conn.execute(statement.limit(1)).first() is not None
