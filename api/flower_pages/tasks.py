"""What a Celery task is in our words: the job it runs, from SQL, joined on the attempt's Celery task id.

A doorbell carries a job id only as advice: which job a task really took is known to its attempt row alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from shared.broker import ATTEMPT_TASK, MAINTAIN_TASK
from shared.db.engine import read
from shared.db.schema import attempts, jobs

#: How long a description is kept (seconds): a page asks for a hundred at once, every few seconds.
FRESH_SECONDS = 1.0
#: Descriptions kept; the oldest go first.
KEPT = 20_000

_COLUMNS = (
    jobs.c.id, jobs.c.name, jobs.c.kind, jobs.c.family, jobs.c.framework, jobs.c.dataset, jobs.c.spec, jobs.c.progress,
    jobs.c.fence.label("latest"), attempts.c.fence, attempts.c.outcome,
)  # fmt: skip


@dataclass(frozen=True)
class Description:
    """What goes into Flower's columns `args`, `kwargs` and `result` (renamed in config.py)."""

    job: str
    work: str = ""
    standing: str = ""


class Descriptions:
    """Celery task id -> its attempt in words; None when it took no job."""

    def __init__(self, engine: Engine, now: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._now = engine, now
        self._kept: dict[str, tuple[float, Description | None]] = {}

    def get(self, task_id: str) -> Description | None:
        until, known = self._kept.get(task_id, (-1.0, None))
        if until >= self._now():
            return known
        row = self._row(task_id)
        found = describe(row) if row else None
        # What has ended does not change any more.
        until = float("inf") if row and row["outcome"] else self._now() + FRESH_SECONDS
        self._kept.pop(task_id, None)
        self._kept[task_id] = (until, found)
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return found

    def _row(self, task_id: str) -> dict[str, Any] | None:
        query = (
            select(*_COLUMNS)
            .join_from(attempts, jobs, attempts.c.job_id == jobs.c.id)
            .where(attempts.c.celery_task_id == task_id)
        )
        with read(self._engine) as conn:
            row = conn.execute(query).mappings().first()
        return dict(row) if row else None


def describe(row: dict[str, Any]) -> Description:
    """`digits nightly · 1a2b3c4d #2`, `train cnn/mnist-3conv (torch) on digits`, `42 % · loss 0.31`.

    Progress belongs to the newest attempt; one that has ended shows how.
    """
    title = " · ".join(filter(None, [row["name"], f"{row['id'][:8]} #{row['fence']}"]))
    return Description(title, _work(row), row["outcome"] or _progress(row))


def _work(row: dict[str, Any]) -> str:
    spec = row["spec"] or {}
    preset = (spec.get("model") or {}).get("preset")
    model = "/".join(filter(None, [row["family"], preset])) or spec.get("model_ref")
    framework, dataset = row["framework"], row["dataset"]
    words = [row["kind"], model, framework and f"({framework})", dataset and f"on {dataset}"]
    return " ".join(word for word in words if word)


def _progress(row: dict[str, Any]) -> str:
    progress = (row["progress"] or {}) if row["fence"] == row["latest"] else {}
    percent, loss = progress.get("percent"), progress.get("loss")
    shown = [percent is not None and f"{percent:.0f} %", loss is not None and f"loss {loss:.4g}"]
    return " · ".join(part for part in shown if part)


def formatter(descriptions: Descriptions) -> Callable[[Any], Any]:
    """Flower's `format_task`: gets a copy of the task it may change. A plain function, as Flower wants it."""

    def format_task(task: Any) -> Any:
        what = descriptions.get(task.uuid) or without_job(str(task.name or ""), task.state, task.args)
        task.args, task.kwargs, task.result = what.job, what.work, what.standing
        return task

    return format_task


def without_job(name: str, state: str, args: Any) -> Description:
    """A task that has no attempt (yet): a doorbell that found nothing to claim, maintenance, something forged."""
    if name == ATTEMPT_TASK:
        return Description("no job was waiting" if state == "SUCCESS" else "", f"doorbell (job {args})")
    return Description("maintenance") if name == MAINTAIN_TASK else Description(str(args or ""))
