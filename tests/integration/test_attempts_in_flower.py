"""Flower's own list of tasks over a real Redis, worker and maintenance: what `/api/tasks` says is what became of the
job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from shared.db.engine import write
from shared.fleet import keys
from shared.jobs.states import StopRequest
from tests.support import databases, warm
from tests.support.factories import OWNER, expire_lease
from tests.support.redis import free_port, running_redis
from tests.support.stack import CAP, Process, Stack, eventually, open_stack

#: Probe, Celery's word for how its first attempt ended, and what Flower shows as exception.
ENDINGS = [
    ("train", "SUCCESS", ""),
    ("typed", "FAILURE", "bad_data: row 7 is empty"),
    ("killed", "FAILURE", "SIGKILL"),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    url = databases.sqlite_database(folder, sqlite_template)
    with (
        running_redis(folder) as redis,
        open_stack(folder, url, redis.url, stop_grace_seconds=1, heartbeat_seconds=0.2, lease_seconds=300) as stack,
    ):
        yield stack


@contextmanager
def flower(stack: Stack) -> Iterator[httpx.Client]:
    with write(stack.engine) as conn:
        _, key = keys.create(conn, "test", OWNER)
    port = free_port()
    environment = os.environ | stack.environment(flower_port=port)
    process = warm.start("api.flower.app", [], environment, stack.folder / "flower.log")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("nightshift", key), timeout=CAP) as client:
            eventually("Flower answers", lambda: answers(client))
            yield client
    finally:
        process.kill()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthcheck").status_code == 200
    except httpx.TransportError:
        return False


def tasks(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    """What Flower says of this job's attempts, oldest first."""
    found = client.get("/api/tasks").json().values()
    return sorted((task for task in found if job_id[:8] in (task["args"] or "")), key=lambda task: task["args"])


def states(client: httpx.Client, job_id: str) -> list[str]:
    return [task["state"] for task in tasks(client, job_id)]


def kill(worker: Process) -> None:
    """The whole worker, as a host that loses its power: itself first, that it cannot tell what became of the others."""
    for process in worker.family():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    worker.popen.wait()


@pytest.mark.slow
def test_flower_says_what_became_of_each_attempt(stack: Stack) -> None:
    with flower(stack) as client:
        worker = stack.worker(max_log_bytes=100_000)
        running = stack.submit("train", steps=1000, hold_at=5, checkpoint=5, max_retries=0, name="to be cancelled")
        stack.at_step(running, 5)
        eventually("it is shown as started", lambda: states(client, running) == ["STARTED"])
        stack.ask(running, StopRequest.CANCEL)
        eventually("it is shown as revoked", lambda: states(client, running) == ["REVOKED"])

        for probe, state, exception in ENDINGS:
            job_id = stack.submit(probe, steps=3, max_retries=0)
            eventually(f"{probe} is {state}", lambda job_id=job_id, state=state: states(client, job_id)[:1] == [state])
            shown = tasks(client, job_id)[0]
            assert shown["kwargs"].startswith("train cnn/")
            assert exception in (shown["exception"] or "")
            if stack.job(job_id).state == "queued":  # after a crash it would be tried again
                stack.ask(job_id, StopRequest.CANCEL)

        lost = stack.submit("train", steps=1000, hold_at=5, checkpoint=5)
        stack.at_step(lost, 5)
        eventually("it is shown as started", lambda: states(client, lost) == ["STARTED"])
        kill(worker)
        expire_lease(stack.engine, lost)
        stack.beat()
        eventually("the lost attempt is shown as failed", lambda: states(client, lost) == ["FAILURE"])
        assert tasks(client, lost)[0]["exception"].startswith("lost: worker cpu0@test")
        before = {task["uuid"]: (task["state"], task["args"]) for task in tasks_of_all(client)}
        assert not {"STARTED", "RECEIVED", "PENDING"} & {state for state, _ in before.values()}

    with flower(stack) as again:  # its memory is gone
        eventually("the attempts are back", lambda: len(tasks_of_all(again)) >= len(before))
        after = {task["uuid"]: (task["state"], task["args"]) for task in tasks_of_all(again)}
        assert after == before


def tasks_of_all(client: httpx.Client) -> list[dict[str, Any]]:
    return list(client.get("/api/tasks").json().values())
