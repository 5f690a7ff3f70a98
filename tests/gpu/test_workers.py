"""Several workers side by side, one for each GPU where there are some: each runs real jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightshift.testing import devices
from shared.db.engine import write
from shared.fleet.gpus import VISIBLE, visible_gpus
from shared.jobs import transitions
from shared.jobs.transitions import NewJob
from shared.specs.jobs import job_spec_adapter
from tests.support.factories import OWNER
from tests.support.redis import running_redis
from tests.support.stack import Stack, eventually, open_stack

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = {"image_size": [8, 8], "filters": [4], "pool": [True], "kernel_size": 3, "dense": [8]}
TRAINING = {"epochs": 1, "max_steps": 12, "batch_size": 32}
#: How many workers are tried at most, and how many jobs each of them gets.
WORKERS, EACH = 4, 2


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str) -> Iterator[Stack]:
    settings = {"kinds": "unpainted", "frameworks": "torch", "torch_threads": 1, "preload": "true"}
    with running_redis(tmp_path) as redis, open_stack(tmp_path, sqlite_url, redis.url, **settings) as stack:
        yield stack


def test_workers_of_all_cards_run_jobs_side_by_side(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    names = _start(stack, monkeypatch)
    model = {"family": "cnn", "framework": "torch", **SMALL}
    body = {
        "kind": "train", "model": model, "training": TRAINING, "dataset": "digits",
        "resources": {"device": devices.kind()},
    }  # fmt: skip
    ids = []
    for _ in range(EACH * len(names)):
        with write(stack.engine) as conn:
            ids.append(transitions.submit(conn, NewJob(OWNER, job_spec_adapter.validate_python(body))).job_id)
        stack.ring(ids[-1], devices.kind())
    done = [stack.finished(job_id) for job_id in ids]
    assert {job.state for job in done} == {"succeeded"}
    assert {job.worker for job in done} <= set(names)


def _start(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start a worker for each card (two on a CPU), and return their names once they are online."""
    if devices.kind() == "cpu":
        for index in range(2):
            stack.worker(index)
        return ["cpu0@test", "cpu1@test"]
    uuids = devices.visible_before()[:WORKERS]
    if len(uuids) < 2:
        pytest.skip("there is one GPU here")
    monkeypatch.setenv(VISIBLE, ",".join(uuids))
    process = stack.start("gpus", "worker.main", "--device", "gpu")
    names = [f"gpu{gpu.index}@test" for gpu in visible_gpus().gpus]
    for name in names:
        eventually(f"{name} is online (see {process.log})", lambda name=name: stack.pid_of(name))  # type: ignore[misc]
    return names
