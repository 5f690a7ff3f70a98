"""Jobs of the program walk on a cluster without Celery: submitted, stopped, and what they left in SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from shared.db.engine import read, write
from shared.db.schema import attempts, job_logs, metrics
from shared.jobs import queries, transitions
from shared.jobs.explain import explain
from shared.jobs.states import StopRequest
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER
from tests.support.lone_worker import Cluster, LoneWorker
from tests.support.stack import eventually

#: Begins a program that says when it runs: it touches the file `ready`.
WAITING = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path

def ready(run):
    run.progress(1)
    Path(run.params.marker).touch()

def until_asked(run):
    ready(run)
    while not run.should_stop():
        time.sleep(0.01)
"""


def submit(cluster: Cluster, **fields: Any) -> str:
    params = {"steps": 20} | fields.pop("params", {})
    policy = {"every_steps": 4, "every_seconds": None}
    body = {"kind": "run", "program": "walk", "params": params, "checkpoint": policy, **fields}
    new = NewJob(owner_id=OWNER, spec=job_spec_adapter.validate_python(body))
    with write(cluster.engine) as conn:
        return transitions.submit(conn, new).job_id


def rows(cluster: Cluster, job_id: str) -> list[Any]:
    with read(cluster.engine) as conn:
        found = select(metrics.c.name, metrics.c.step, metrics.c.value).where(metrics.c.job_id == job_id)
        return list(conn.execute(found.order_by(metrics.c.step, metrics.c.name)))


def log_of(cluster: Cluster, job_id: str) -> list[str]:
    with read(cluster.engine) as conn:
        mine = select(job_logs.c.message).where(job_logs.c.job_id == job_id)
        return list(conn.scalars(mine.order_by(job_logs.c.seq)))


def environments(cluster: Cluster, job_id: str) -> list[dict[str, Any]]:
    with read(cluster.engine) as conn:
        mine = select(attempts.c.environment).where(attempts.c.job_id == job_id).order_by(attempts.c.fence)
        return [found or {} for found in conn.scalars(mine)]


def why(cluster: Cluster, job_id: str) -> str:
    with read(cluster.engine) as conn:
        job = queries.get_job(conn, job_id, OWNER)
        return explain(job, queries.explain_context(conn, job, 30.0)).sentence


def ask(cluster: Cluster, job_id: str, request: StopRequest) -> None:
    """Request a stop: preemption by the service, others by the owner."""
    with write(cluster.engine) as conn:
        transitions.request_stop(conn, job_id, request, None if request is StopRequest.PREEMPT else OWNER)


def asked_while_it_runs(cluster: Cluster, worker: LoneWorker, folder: Path, request: StopRequest, **fields: Any) -> str:
    """Return a job that was asked to stop in its first step, after its attempt has ended."""
    marker = folder / "ready"
    params = {"marker": str(marker), **fields.pop("params", {})}
    job_id = submit(cluster, params=params, **fields)
    worker.start()
    eventually("the program runs", lambda: marker.exists() or worker.done())
    ask(cluster, job_id, request)
    worker.wait()
    return job_id
