"""Measure what faults cost: time until a worker ran the job again, and steps that were done twice."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from shared.db.engine import read
from shared.db.schema import attempts, checkpoints, job_events, jobs, metrics


@dataclass
class Injected:
    """One fault. `at` and `until` are seconds since the epoch; a kill ends when it begins."""

    kind: str
    at: float
    until: float
    #: Whose attempt it hit, if any, and how far that was.
    job_id: str | None = None
    fence: int | None = None
    step: int = 0


@dataclass
class Round:
    """One run of the nemesis; `as_json` is what is kept of it."""

    seed: int
    database: str
    minutes: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    jobs: int = 0
    accepted: int = 0
    states: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    transactions: int = 0
    steps: int = 0
    lost_steps: int = 0
    most_lost: int = 0
    recovery: dict[str, list[float]] = field(default_factory=dict)
    slowest_submission: float = 0.0
    refused: int = 0
    violations: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Round:
        return cls(**json.loads(path.read_text()))


def measure(round_: Round, engine: Engine, injected: list[Injected]) -> None:
    """Fill in what the database tells of the costs."""
    with read(engine) as conn:
        began, stopped = _began(conn), _asked_to_stop(conn)
        starts = sorted(conn.scalars(select(attempts.c.started_at)))
        resumed = {(row.job_id, row.fence): row.resumed_step or 0 for row in conn.execute(select(attempts))}
        round_.states = dict(Counter(conn.scalars(select(jobs.c.state))))
        round_.outcomes = dict(Counter(str(outcome) for outcome in conn.scalars(select(attempts.c.outcome))))
        round_.jobs = sum(round_.states.values())
        round_.transactions = _transactions(conn)
        round_.steps = conn.scalar(select(func.count()).select_from(metrics)) or 0
    round_.faults = dict(Counter(fault.kind for fault in injected))
    recovery = defaultdict(list)
    for fault in injected:
        took = _recovered(fault, began, starts) if fault.job_id not in stopped else None
        if took is not None:
            recovery[fault.kind].append(round(took, 3))
        if fault.job_id is not None and (again := _next(fault, began)) is not None:
            lost = max(0, fault.step - resumed[fault.job_id, again])
            round_.lost_steps += lost
            round_.most_lost = max(round_.most_lost, lost)
    round_.recovery = dict(recovery)


def _began(conn: Any) -> dict[tuple[str, int], float]:
    """(job, fence) -> when its runner had loaded its state and trained on."""
    rows = conn.execute(select(job_events).where(job_events.c.type == "attempt"))
    return {(row.job_id, row.fence): row.at for row in rows}


def _asked_to_stop(conn: Any) -> set[str]:
    """Return the jobs that a user cancelled, paused or finished: their waiting was not caused by a fault."""
    asked = conn.scalars(select(job_events.c.job_id).where(job_events.c.type == "stop_requested"))
    paused = conn.execute(select(job_events.c.job_id, job_events.c.data).where(job_events.c.type == "state"))
    return {*asked, *(row.job_id for row in paused if row.data["state"] == "paused")}


def _transactions(conn: Any) -> int:
    """Those that are still to be seen; what a resume took back, and heartbeats, are not."""
    written = conn.scalar(
        select(func.count()).select_from(select(metrics.c.job_id, metrics.c.at).distinct().subquery())
    )
    listed = conn.scalar(select(func.count()).select_from(checkpoints))
    told = conn.scalar(select(func.count()).select_from(job_events).where(job_events.c.type == "state"))
    return int(written + listed + told)


def _next(fault: Injected, began: dict[tuple[str, int], float]) -> int | None:
    """The attempt that went on with the job."""
    later = [fence for job_id, fence in began if job_id == fault.job_id and fence > (fault.fence or 0)]
    return min(later, default=None)


def _recovered(fault: Injected, began: dict[tuple[str, int], float], starts: list[float]) -> float | None:
    """Of an attempt that was hit: until the next one of its job trained. Else: from the end of the fault until the
    stack started an attempt again. None: the job was over, or asked to stop."""
    if fault.job_id is not None:
        again = _next(fault, began)
        return None if again is None else began[fault.job_id, again] - fault.at
    after = next((at for at in starts if at > fault.until), None)
    return None if after is None else after - fault.until
