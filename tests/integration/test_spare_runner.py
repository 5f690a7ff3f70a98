"""The spare: a job that found a warm runner ends with the same weights as one that did not, or whose spare had died."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.factories import submit_job
from tests.support.house import House, Process, eventually, open_house
from tests.support.redis import running_redis

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

TRAINING = {"epochs": 1, "max_steps": 3, "batch_size": 32}


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with (
        running_redis(tmp_path) as redis,
        open_house(tmp_path, sqlite_url, redis.url, test_kinds="tests.support.unpainted") as house,
    ):
        yield house


def _weights(house: House) -> tuple[str, int]:
    """SHA-256 of the weights of one small job, and the pid of the process it ran in."""
    job_id = submit_job(house.engine, training=TRAINING).job_id
    house.ring(job_id)
    job = house.finished(job_id)
    assert job.state == "succeeded", job.error
    log = [line for line in house.processes[-1].log.read_text().splitlines() if "runner.forked" in line][-1]
    sha = next(row.sha256 for row in house.artifacts(job_id) if row.path == "model/model.safetensors")
    return sha, int(json.loads(log)["pid"])


def _spare(house: House, worker: Process, before: int = 0) -> int:
    """Its pid; not that of the one before, which may need a moment to leave."""

    def warm() -> int | None:
        runners = house.runner_pids(worker)
        return runners[0] if len(runners) == 1 and runners[0] != before and _sleeps(runners[0]) else None

    return int(eventually("a spare is there", warm))


def _sleeps(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_SLEEPING
    return False


def test_a_warm_a_cold_and_a_dead_runner_give_the_same_weights(house: House) -> None:
    settings = {"preload": "true", "torch_threads": 1}
    worker = house.worker(**settings)
    psutil.Process(_spare(house, worker)).kill()
    eventually("it is gone", lambda: not house.runner_pids(worker))
    without, _ = _weights(house)
    spare = _spare(house, worker)
    warm, pid = _weights(house)
    assert pid == spare, "the idle worker's job runs in the spare"
    assert _spare(house, worker, before=spare), "a spare serves one job"
    worker.terminate()
    house.worker(**{**settings, "preload": "false"})
    cold, _ = _weights(house)
    assert without == warm == cold
