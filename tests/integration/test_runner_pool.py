"""The spare: a job that found a warm runner ends with the same weights as one that did not, or whose spare had died."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.factories import submit_job
from tests.support.redis import running_redis
from tests.support.stack import Process, Stack, eventually, open_stack

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

TRAINING = {"epochs": 1, "max_steps": 3, "batch_size": 32}


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str) -> Iterator[Stack]:
    with (
        running_redis(tmp_path) as redis,
        open_stack(tmp_path, sqlite_url, redis.url, kinds="unpainted") as stack,
    ):
        yield stack


def _weights(stack: Stack) -> tuple[str, int]:
    """SHA-256 of the weights of one small job, and the pid of the process it ran in."""
    job_id = submit_job(stack.engine, training=TRAINING).job_id
    stack.ring(job_id)
    job = stack.finished(job_id)
    assert job.state == "succeeded", job.error
    log = [line for line in stack.processes[-1].log.read_text().splitlines() if _is_forked_for_device(line)][-1]
    sha = next(row.sha256 for row in stack.artifacts(job_id) if row.path == "model/model.safetensors")
    return sha, int(json.loads(log)["pid"])


def _is_forked_for_device(line: str) -> bool:
    return "runner.forked" in line and json.loads(line)["part"] == "device"


def _spare(stack: Stack, worker: Process, before: int = 0) -> int:
    """Its pid; not that of the one before, which may need a moment to leave."""

    def warm() -> int | None:
        runners = stack.runner_pids(worker)
        return runners[0] if len(runners) == 1 and runners[0] != before and _sleeps(runners[0]) else None

    return int(eventually("a spare is there", warm))


def _sleeps(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_SLEEPING
    return False


def test_a_warm_a_cold_and_a_dead_runner_give_the_same_weights(stack: Stack) -> None:
    settings = {"preload": "true", "torch_threads": 1}
    worker = stack.worker(**settings)
    psutil.Process(_spare(stack, worker)).kill()
    eventually("it is gone", lambda: not stack.runner_pids(worker))
    without, _ = _weights(stack)
    spare = _spare(stack, worker)
    warm, pid = _weights(stack)
    assert pid == spare, "the idle worker's job runs in the spare"
    assert _spare(stack, worker, before=spare), "a spare serves one job"
    worker.terminate()
    stack.worker(**{**settings, "preload": "false"})
    cold, _ = _weights(stack)
    assert without == warm == cold
