"""queued_jobs: the queue in the order of the claim, each job with the sentence of `why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from shared.clock import iso, read_clock
from shared.db.counters import JOBS, counted
from shared.db.schema import attempts, jobs
from shared.fleet.keys import owner_names
from shared.jobs.eligibility import REQUIREMENTS, Row, can_run, distinct, left_workers, online_workers
from shared.jobs.explain import ExplainContext, explain
from shared.jobs.queries.counts import Due, queue
from shared.jobs.queue_parts import first_ids

#: Most jobs in an answer: due ones, and those with a later `run_at`.
DUE, LATER = 100, 25


def queued_jobs(conn: Connection, owner_id: str | None, lease_seconds: float) -> dict[str, Any]:
    """Return {now, counts, devices, due: [...], later: [...]}; `due` in the order of the claim, `later` by time.

    Of other owners' jobs only position, device and priority are returned.
    """
    now = read_clock(conn)
    due = _jobs(conn, first_ids(conn, DUE, due=True))
    later = _jobs(conn, first_ids(conn, LATER, due=False))
    waiting = queue(conn)
    shown = [*due, *later]
    online, left = online_workers(conn, lease_seconds), left_workers(conn, lease_seconds)
    last = _last_attempts(conn, [job["id"] for job in shown])
    victims = _victims(conn, [job["id"] for job in shown if job["preempts"]])
    names = owner_names(conn, {job["owner_id"] for job in shown})

    def view(job: Row, ahead: int) -> dict[str, Any]:
        around = ExplainContext(
            now,
            lease_seconds,
            attempts=last.get(job["id"], ()),
            workers=online,
            left=left,
            ahead=ahead,
            victim=victims.get(job["id"]),
        )
        who = names.get(job["owner_id"], job["owner_id"])
        return _view(job, explain(job, around).sentence, owner_id, who, now)

    return {
        "now": iso(now),
        "counts": _counts(conn, waiting),
        "devices": _devices(waiting),
        "due": [view(job, _ahead(job, due[:place], online)) for place, job in enumerate(due)],
        "later": [view(job, 0) for job in later],
    }


def _jobs(conn: Connection, ids: Sequence[str]) -> list[Row]:
    columns = (
        *REQUIREMENTS, jobs.c.id, jobs.c.owner_id, jobs.c.name, jobs.c.kind, jobs.c.family, jobs.c.dataset,
        jobs.c.priority, jobs.c.preempts, jobs.c.state, jobs.c.run_at, jobs.c.created_at, jobs.c.fence,
        jobs.c.stop_requested, jobs.c.retries, jobs.c.max_retries, jobs.c.lost_streak,
    )  # fmt: skip
    found = {row["id"]: row for row in conn.execute(select(*columns).where(jobs.c.id.in_(ids))).mappings()}
    return [found[job_id] for job_id in ids if job_id in found]


def _ahead(job: Row, before: Sequence[Row], online: Sequence[Row]) -> int:
    """Count the jobs before it that one of its workers can run."""
    fitting = [worker for worker in online if can_run(job, worker)]
    return sum(any(can_run(other, worker) for worker in distinct(fitting)) for other in before)


def _last_attempts(conn: Connection, ids: Sequence[str]) -> dict[str, list[Mapping[Any, Any]]]:
    """Return the newest attempt of each job that has one."""
    newest = select(attempts).where(attempts.c.job_id.in_(ids)).order_by(attempts.c.fence)
    return {row["job_id"]: [row] for row in conn.execute(newest).mappings()}


def _victims(conn: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the running job that is being preempted for each urgent job."""
    if not ids:
        return {}
    asked = select(jobs.c.makes_room_for, jobs.c.id).where(jobs.c.makes_room_for.in_(ids), jobs.c.state == "running")
    return {row[0]: row[1] for row in conn.execute(asked)}


def _counts(conn: Connection, waiting: Sequence[Due]) -> dict[str, int]:
    """Count the jobs that are due, have a later `run_at`, wait for other jobs or are paused."""
    states = {row.label: row.n for row in counted(conn, JOBS, "label")}
    due = sum(one.count for one in waiting)
    later = max(0, states.get("queued", 0) - due)
    return {"due": due, "later": later} | {state: states.get(state, 0) for state in ("waiting", "paused")}


def _devices(waiting: Sequence[Due]) -> dict[str, dict[str, Any]]:
    """Count the due jobs per requested device, with the longest waiting time."""
    found: dict[str, dict[str, Any]] = {}
    for due in waiting:
        one = found.setdefault(due.device, {"count": 0, "oldest_seconds": 0.0})
        one["count"] += due.count
        one["oldest_seconds"] = max(one["oldest_seconds"], due.oldest_seconds)
    return found


def _view(job: Row, why: str, owner_id: str | None, who: str | None, now: float) -> dict[str, Any]:
    mine = owner_id in (None, job["owner_id"])
    always = {key: job[key] for key in ("device", "framework", "priority", "preempts")}
    of_job = {key: job[key] if mine else None for key in ("id", "name", "kind", "family", "dataset")}
    times = {"run_at": iso(job["run_at"]), "waited_seconds": round(max(0.0, now - job["run_at"]), 1)}
    return (
        always | of_job | times | {"attempt": job["fence"], "who": who if mine else None, "why": why if mine else None}
    )
