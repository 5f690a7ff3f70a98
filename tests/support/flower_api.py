"""Content of Flower's own pages: attempts of several owners, and a worker's answer to an inspection."""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue

from shared.db.engine import read
from shared.jobs import queries
from shared.jobs.transitions import Lease
from tests.support.factories import claim_job, make_claimer, submit_job
from tests.support.flower_app import FlowerApp

WORKER = "cpu0@test"
MINE, THEIRS = "11111111-2222-3333-4444-555555555555", "99999999-8888-7777-6666-555555555555"


def on_worker(flower: FlowerApp, owner: str, task_id: str, name: str) -> Lease:
    """Return the lease of a running job of this owner, whose attempt is this Celery task."""
    submit_job(flower.engine, owner_id=owner, name=name)
    return claim_job(flower.engine, make_claimer(WORKER, celery_task_id=task_id)).lease


def asked(flower: FlowerApp, job_id: str) -> Any:
    """Return the job's stop request."""
    with read(flower.engine) as conn:
        return queries.get_job(conn, job_id, None)["stop_requested"]


def inspected(flower: FlowerApp, *active: dict[str, Any]) -> None:
    """Set the worker's answer to Flower's inspection, with these active tasks."""
    task = {"name": "nightshift.attempt", "acknowledged": True, "worker_pid": 1, "kwargs": "{}"}
    queue = Queue("nightshift.auto", Exchange("")).as_dict(recurse=True)
    stats = {"total": {}, "pid": 1, "prefetch_count": 1, "broker": {}, "rusage": {}, "pool": {"max-concurrency": 1}}
    flower.flower.inspector.workers[WORKER] = {
        "stats": stats,
        "active": [task | one for one in active],
        "reserved": [task | one for one in active],
        "revoked": [one["id"] for one in active],
        "scheduled": [],
        "active_queues": [queue],
        "registered": ["nightshift.attempt"],
        "conf": {},
    }
