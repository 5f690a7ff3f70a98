"""What a Celery task is in our words: the job it runs, from SQL, joined on the attempt's Celery task id.

A doorbell carries a job id only as advice: which job a task really took is known to its attempt row alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, select

from shared.db.engine import read
from shared.jobs.models import Attempt, Job

#: How long a description is kept (seconds): a page asks for a hundred at once, every few seconds.
FRESH_SECONDS = 1.0
#: Descriptions kept; the oldest go first.
KEPT = 20_000


class Descriptions:
    """Celery task id -> one line about its attempt; None when it took no job."""

    def __init__(self, engine: Engine, now: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._now = engine, now
        self._kept: dict[str, tuple[float, str | None]] = {}

    def get(self, task_id: str) -> str | None:
        until, line = self._kept.get(task_id, (-1.0, None))
        if until >= self._now():
            return line
        row = self._row(task_id)
        line = describe(row) if row else None
        # What has ended does not change any more.
        until = float("inf") if row and row["outcome"] else self._now() + FRESH_SECONDS
        self._kept.pop(task_id, None)
        self._kept[task_id] = (until, line)
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return line

    def _row(self, task_id: str) -> dict[str, Any] | None:
        attempts, jobs = Attempt.__table__.c, Job.__table__.c  # type: ignore[attr-defined]
        query = (
            select(
                jobs.id, jobs.name, jobs.kind, jobs.family, jobs.framework, jobs.dataset, jobs.spec, jobs.progress,
                jobs.fence.label("latest"), attempts.fence, attempts.outcome,
            )
            .join_from(Attempt, Job, attempts.job_id == jobs.id)
            .where(attempts.celery_task_id == task_id)
        )  # fmt: skip
        with read(self._engine) as conn:
            row = conn.execute(query).mappings().first()
        return dict(row) if row else None


def describe(row: dict[str, Any]) -> str:
    """`digits nightly · train cnn/mnist-3conv in torch on digits · 42 % · loss 0.31 · job 1a2b… attempt 2`.

    Progress belongs to the newest attempt; an older one shows how it ended.
    """
    parts = [row["name"], _work(row)]
    if row["outcome"]:
        parts.append(row["outcome"])
    elif row["fence"] == row["latest"]:
        parts += _progress(row["progress"] or {})
    parts.append(f"job {row['id']} attempt {row['fence']}")
    return " · ".join(part for part in parts if part)


def _work(row: dict[str, Any]) -> str:
    spec = row["spec"] or {}
    preset = (spec.get("model") or {}).get("preset")
    model = "/".join(filter(None, [row["family"], preset])) or spec.get("model_ref")
    words = [row["kind"], model, f"in {row['framework']}" if row["framework"] else None, f"on {row['dataset']}"]
    return " ".join(word for word in words if word)


def _progress(progress: dict[str, Any]) -> list[str]:
    percent, loss = progress.get("percent"), progress.get("loss")
    return [
        *([f"{percent:.0f} %"] if percent is not None else []),
        *([f"loss {loss:.4g}"] if loss is not None else []),
    ]


def formatter(descriptions: Descriptions) -> Callable[[Any], Any]:
    """Flower's `format_task`: gets a copy of the task it may change. A plain function, as Flower wants it."""

    def format_task(task: Any) -> Any:
        task.args = descriptions.get(task.uuid) or _without_job(task)
        return task

    return format_task


def _without_job(task: Any) -> str:
    name = str(task.name or "")
    if name.endswith(".attempt"):
        return "heard a doorbell; no job was waiting" if task.state == "SUCCESS" else f"doorbell of job {task.args}"
    return "maintenance" if name.endswith(".maintain") else str(task.args or "")
