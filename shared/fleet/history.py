"""Timeline of each device: attempts and utilization over a time window, and queue waiting times."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, case, func, or_, select

from shared.clock import read_clock
from shared.db.schema import attempts, jobs, workers
from shared.jobs.ownership import IDS, of_owner

#: Window name -> length (seconds).
WINDOWS = {"hour": 3600.0, "day": 86_400.0, "week": 604_800.0}
#: Columns of a drawn window: attempts within one column are merged.
COLUMNS = 400


@dataclass
class Lane:
    """One device's window. Times are seconds since the epoch."""

    since: float
    now: float
    busy: float = 0.0
    #: The end of what counts as busy so far: an attempt may end while the next one runs.
    busy_until: float = 0.0
    attempts: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    spans: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: Any) -> None:
        """Add the next attempt in order. That of a lost worker ends when the loss was detected."""
        start, end = max(row.started_at, self.since), min(row.ended_at or self.now, self.now)
        last = self.spans[-1] if self.spans else None
        self.busy += max(0.0, end - max(start, self.busy_until))
        self.busy_until = max(self.busy_until, end)
        self.attempts += 1
        outcome = row.outcome or "running"
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if last and end - last["from"] < (self.now - self.since) / COLUMNS:
            last["count"] += 1
            last["to"], last["outcome"] = max(end, last["to"]), _worse(last["outcome"], outcome)
        else:
            one = {"from": start, "to": end, "count": 1, "outcome": outcome, "job_id": row.job_id}
            self.spans.append(one)

    def view(self, known: Collection[str]) -> dict[str, Any]:
        """Return the lane for the page; a span is [from, to, outcome, attempts, first job id if in `known`]."""
        spans = [
            [round(span["from"] * 1000), round(span["to"] * 1000), span["outcome"], span["count"],
             span["job_id"] if span["job_id"] in known else None]
            for span in self.spans
        ]  # fmt: skip
        facts = {"busy_seconds": round(self.busy, 3), "busy_share": round(self.busy / (self.now - self.since), 4)}
        return facts | {"attempts": self.attempts, "outcomes": self.outcomes, "spans": spans}


def _worse(one: str, other: str) -> str:
    """Return the outcome of two merged attempts: an unsuccessful one if there is any."""
    return other if one in ("succeeded", "running") else one


def timeline(conn: Connection, owner_id: str | None, window: str) -> dict[str, Any]:
    """Return {window, since, now, devices: {name: {busy_share, attempts, outcomes, spans}}, jobs: {id: …}, wait}.

    Devices are those registered or with an attempt in the window. Times are in milliseconds, as in JavaScript. Of other
    owners' jobs only the outcome is returned.
    """
    now = read_clock(conn)
    since = now - WINDOWS[window]
    lanes = {name: Lane(since, now) for name in conn.scalars(select(workers.c.name))}
    for row in _within(conn, since):
        lanes.setdefault(row.worker, Lane(since, now)).add(row)
    named = _jobs(conn, {span["job_id"] for lane in lanes.values() for span in lane.spans}, owner_id)
    return {
        "window": window,
        "since": round(since * 1000),
        "now": round(now * 1000),
        "devices": {name: lanes[name].view(named) for name in sorted(lanes)},
        "jobs": named,
        "wait": wait(conn, since),
    }


def _within(conn: Connection, since: float) -> Iterable[Any]:
    """Return the attempts that ran at any moment since `since`, by start."""
    table = attempts.c
    columns = (table.job_id, table.worker, table.outcome, table.started_at, table.ended_at)
    ran = or_(table.ended_at >= since, table.ended_at.is_(None))
    return conn.execute(select(*columns).where(ran).order_by(table.started_at))


def _jobs(conn: Connection, ids: Collection[str], owner_id: str | None) -> dict[str, dict[str, Any]]:
    """Return the jobs among `ids` that belong to the owner (None: all)."""
    columns = (jobs.c.id, jobs.c.name, jobs.c.kind, jobs.c.dataset, jobs.c.family)
    every, found = sorted(ids), {}
    for start in range(0, len(every), IDS):
        chunk = select(*columns).where(jobs.c.id.in_(every[start : start + IDS]), of_owner(owner_id))
        for job_id, name, kind, dataset, family in conn.execute(chunk):
            found[job_id] = {"name": name, "kind": kind, "dataset": dataset, "family": family}
    return found


def wait(conn: Connection, since: float) -> dict[str, Any]:
    """Return {jobs, mean_seconds, longest_seconds}: the waiting times of jobs first started since `since`.

    A job waits from its submission, or from `run_at` if it was submitted for a later start.
    """
    due = case((jobs.c.run_at <= attempts.c.started_at, jobs.c.run_at), else_=jobs.c.created_at)
    waited = attempts.c.started_at - due
    row = conn.execute(
        select(func.count(), func.avg(waited), func.max(waited))
        .select_from(attempts.join(jobs, jobs.c.id == attempts.c.job_id))
        .where(attempts.c.started_at >= since, attempts.c.fence == 1)
    ).one()
    return {"jobs": row[0], "mean_seconds": row[1], "longest_seconds": row[2]}
