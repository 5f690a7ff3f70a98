"""A gang through real workers of two CPU slots: claimed whole, killed at random, exact, and gone at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from shared.db.engine import read, write
from shared.db.schema import devices
from shared.jobs import transitions
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER
from tests.support.redis import running_redis
from tests.support.stack import Process, Stack, eventually, gone, open_stack

pytest.importorskip("torch")
pytestmark = [pytest.mark.timeout(600)]

BODY: dict[str, Any] = {
    "kind": "train", "dataset": "digits", "resources": {"devices": 2, "device": "cpu"},
    "model": {"family": "cnn", "image_size": [8, 8], "filters": [4], "pool": [True], "kernel_size": 3, "dense": [8]},
    "training": {"epochs": 100, "max_steps": 1200, "batch_size": 32},
    "checkpoint": {"every_steps": 50, "every_seconds": None},
}  # fmt: skip


@pytest.fixture
def stack(tmp_path: Path, database_url: str) -> Iterator[Stack]:
    settings = {"kinds": "unpainted", "frameworks": "torch", "torch_threads": 1, "preload": "true"}
    with running_redis(tmp_path) as redis, open_stack(tmp_path, database_url, redis.url, **settings) as stack:
        yield stack


def submit(stack: Stack) -> str:
    with write(stack.engine) as conn:
        job_id = transitions.submit(conn, NewJob(OWNER, job_spec_adapter.validate_python(BODY))).job_id
    stack.ring(job_id, "cpu")
    return job_id


def held(stack: Stack) -> list[str | None]:
    with read(stack.engine) as conn:
        return list(conn.scalars(select(devices.c.job_id).order_by(devices.c.id)))


def weights(stack: Stack, job_id: str) -> str:
    return {row.path: row.sha256 for row in stack.artifacts(job_id)}["model/model.safetensors"]


def ranks(stack: Stack, workers: list[Process]) -> list[psutil.Process]:
    runners = [psutil.Process(pid) for worker in workers for pid in stack.runner_pids(worker)]
    return [rank for runner in runners for rank in sorted(runner.children(), key=lambda one: one.pid)]


def test_a_gang_whose_rank_was_killed_leaves_the_same_weights_and_no_process(stack: Stack) -> None:
    workers = [stack.worker(0), stack.worker(1)]
    stack.beat()
    eventually("both devices are known", lambda: held(stack) == [None, None])
    whole = submit(stack)
    assert stack.finished(whole).state == "succeeded", stack.logs(whole)
    eventually("its devices are free", lambda: held(stack) == [None, None])
    killed = submit(stack)
    stack.at_step(killed, 200)
    assert held(stack) == [killed, killed]
    victims = ranks(stack, workers)
    assert len(victims) == 2
    victims[1].kill()
    assert stack.finished(killed).state == "succeeded", stack.logs(killed)
    assert stack.outcomes(killed) == ["crashed", "succeeded"]
    assert weights(stack, killed) == weights(stack, whole)
    eventually("no rank is left", lambda: all(map(gone, victims)))
    eventually("its devices are free again", lambda: held(stack) == [None, None])
