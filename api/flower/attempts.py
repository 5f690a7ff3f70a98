"""The attempts behind Celery tasks, found in SQL by their Celery task ids.

The job id in a doorbell is only a hint: the job that a task claimed, its progress and its outcome are in the attempt's
row. Celery itself records every task that returned as a success.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery import states
from sqlalchemy import Engine, select

from shared.db.engine import read
from shared.db.schema import attempts, jobs
from shared.jobs.states import AttemptOutcome

#: Largest number of attempts restored in Flower's list of tasks after a restart, and read per comparison.
RECENT = 1_000
#: Commits are not in the order of their times, so each comparison reads this far back again (seconds).
OVERLAP_SECONDS = 30.0
#: Task ids per query: SQLite takes 999 parameters everywhere.
IDS = 500

_COLUMNS = (
    jobs.c.id, jobs.c.name, jobs.c.kind, jobs.c.family, jobs.c.framework, jobs.c.dataset, jobs.c.spec, jobs.c.progress,
    jobs.c.fence.label("latest"), jobs.c.owner_id, jobs.c.stop_requested,
    attempts.c.fence, attempts.c.outcome, attempts.c.error, attempts.c.worker, attempts.c.celery_task_id,
    attempts.c.started_at, attempts.c.ended_at,
)  # fmt: skip

#: Ids that an attempt can have; any client of Redis can send events with others.
_TASK_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
#: Outcomes of requested stops. All others except `succeeded` are failures.
_REQUESTED = {AttemptOutcome.CANCELLED, AttemptOutcome.PAUSED, AttemptOutcome.DRAINED, AttemptOutcome.PREEMPTED}


@dataclass(frozen=True)
class Description:
    """Values of Flower's columns `args`, `kwargs` and `result` (renamed in config.py)."""

    job: str
    work: str = ""
    status: str = ""


@dataclass(frozen=True)
class Attempt:
    """A row of the tasks page."""

    task_id: str
    job_id: str
    owner_id: str
    worker: str
    started_at: float
    ended_at: float | None
    state: str  # Celery's
    outcome: str | None  # ours; None while it runs
    stop_requested: str | None  # of its job, while it runs
    error: str | None
    description: Description


def celery_state(outcome: str | None) -> str:
    """Return Celery's state for an attempt: FAILURE for errors, REVOKED for requested stops."""
    if outcome is None:
        return str(states.STARTED)
    if outcome == AttemptOutcome.SUCCEEDED:
        return str(states.SUCCESS)
    return str(states.REVOKED if outcome in _REQUESTED else states.FAILURE)


def by_task(engine: Engine, task_ids: Sequence[str]) -> list[Attempt]:
    """Return the attempts behind these tasks, oldest first. A task that claimed no job, or a forged one, has none."""
    task_ids = [task_id for task_id in task_ids if _TASK_ID.fullmatch(task_id)]
    query = select(*_COLUMNS).join_from(attempts, jobs, attempts.c.job_id == jobs.c.id)
    found: list[Attempt] = []
    with read(engine) as conn:
        for start in range(0, len(task_ids), IDS):
            some = attempts.c.celery_task_id.in_(task_ids[start : start + IDS])
            rows = conn.execute(query.where(some)).mappings()
            found += [_attempt(dict(row)) for row in rows]
    return sorted(found, key=lambda attempt: attempt.started_at)


def started_since(engine: Engine, mark: float) -> list[tuple[str, float]]:
    """Return (task id, started at) of the newest RECENT attempts since `mark`, oldest first."""
    query = (
        select(attempts.c.celery_task_id, attempts.c.started_at)
        .where(attempts.c.started_at > mark, attempts.c.celery_task_id.is_not(None))
        .order_by(attempts.c.started_at.desc())
        .limit(RECENT)
    )
    with read(engine) as conn:
        rows: Sequence[Any] = conn.execute(query).all()
    return [(task_id, started_at) for task_id, started_at in reversed(rows)]


def _attempt(row: dict[str, Any]) -> Attempt:
    error = row["error"]
    return Attempt(
        task_id=row["celery_task_id"],
        job_id=row["id"],
        owner_id=row["owner_id"],
        worker=row["worker"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        state=celery_state(row["outcome"]),
        outcome=row["outcome"],
        stop_requested=row["stop_requested"] if row["outcome"] is None else None,
        error=f"{error['type']}: {error['message']}" if error else row["outcome"],
        description=describe(row),
    )


def describe(row: dict[str, Any]) -> Description:
    """Describe an attempt.

    For example `digits nightly · 1a2b3c4d #2`, `train cnn/mnist-3conv (torch) on digits`, `lost · 42% · loss 0.31`.
    """
    title = " · ".join(filter(None, [row["name"], f"{row['id'][:8]} #{row['fence']}"]))
    status = " · ".join(filter(None, [row["outcome"], _progress(row)]))
    return Description(title, _work(row), status)


def _work(row: dict[str, Any]) -> str:
    spec = row["spec"] or {}
    preset = (spec.get("model") or {}).get("preset")
    model = "/".join(filter(None, [row["family"], preset])) or spec.get("model_ref")
    framework, dataset = row["framework"], row["dataset"]
    words = [row["kind"], model, framework and f"({framework})", dataset and f"on {dataset}"]
    return " ".join(word for word in words if word)


def _progress(row: dict[str, Any]) -> str:
    """Return the job's progress for its newest attempt, an empty string for earlier ones."""
    progress = (row["progress"] or {}) if row["fence"] == row["latest"] else {}
    percent, loss = progress.get("percent"), progress.get("loss")
    shown = [percent is not None and f"{percent:.0f}%", loss is not None and f"loss {loss:.4g}"]
    return " · ".join(part for part in shown if part)
