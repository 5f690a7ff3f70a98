"""API, workers and two beats are killed all through a sweep: each trial is there once, and the best is the best.

Which process is killed and when is drawn from the seed. `make chaos` kills more of them, through longer trials.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nightshift.testing import seeds
from tests.faults.oracle import assert_sound
from tests.support import probe
from tests.support.redis import running_redis
from tests.support.stack import Process, Stack, eventually, open_stack
from tests.support.sweeps import sweep_of, trials_of

TRIALS = 40
#: From the last kill until the sweep must have ended (seconds).
CALM = 300.0
LEASE = 2.0
SETTINGS = {
    "lease_seconds": LEASE, "heartbeat_seconds": 0.4, "maintenance_seconds": 0.5, "relay_seconds": 0.02,
    "stop_grace_seconds": 2, "poison_limit": 100,
}  # fmt: skip
#: How often each is killed, compared with the others.
WEIGHTS = {"api": 1, "beat0": 3, "beat1": 3, "cpu0": 2, "cpu1": 2}


@pytest.fixture
def stack(tmp_path: Path, database_url: str) -> Iterator[Stack]:
    with running_redis(tmp_path) as redis, open_stack(tmp_path, database_url, redis.url, **SETTINGS) as stack:
        yield stack


def submitted(stack: Stack, **tags: object) -> str:
    """Submit a sweep of scored probes over HTTP."""
    told = {"probe": "train", "scored": "yes", **{name: str(value) for name, value in tags.items()}}
    job: dict[str, Any] = {
        "kind": "train", "dataset": "digits", "max_retries": 0, "tags": told,
        "model": {"family": "cnn", "preset": "mnist-1conv-linear"},
    }  # fmt: skip
    space = {"training.learning_rate": {"low": 0.00001, "high": 1.0, "log": True}}
    body = {"job": job, "space": space, "objective": {"metric": "test_accuracy"}, "trials": TRIALS, "concurrency": 4}
    answer = stack.post("/v1/sweeps", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def started(stack: Stack) -> dict[str, Process]:
    """Start the API, two workers and two beats."""
    api = stack.api()
    beats = {f"beat{place}": stack.start(f"beat{place}", "worker.beat", host_name=f"host{place}") for place in (0, 1)}
    return {"api": api, **beats, **{f"cpu{place}": stack.worker(place) for place in (0, 1)}}


def kill_through(stack: Stack, parts: dict[str, Process], sweep_id: str, kills: int, pause: float) -> int:
    """Kill processes at random until the sweep has ended or there were enough; start each again. Return how many."""
    chance, killed = random.Random(seeds.seed()), 0
    while killed < kills and sweep_of(stack.engine, sweep_id).finished_at is None:
        time.sleep(chance.uniform(0.0, pause))
        name = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        parts[name].kill()
        parts[name] = parts[name].again()
        killed += 1
    return killed


def assert_whole(stack: Stack, sweep_id: str) -> None:
    """The sweep has all of its trials, each complete with the value of its job, and nothing is left."""
    eventually("the sweep has ended", lambda: sweep_of(stack.engine, sweep_id).finished_at is not None, CALM)
    sweep, trials = sweep_of(stack.engine, sweep_id), trials_of(stack.engine, sweep_id)
    assert (sweep.state, sweep.started) == ("succeeded", TRIALS)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} == {"complete"}, [trial.reason for trial in trials if trial.reason]
    scores = {trial.number: probe.score(stack.job(trial.job_id).spec) for trial in trials}
    assert {trial.number: trial.value for trial in trials} == scores
    assert scores[sweep.best] == max(scores.values())
    assert sorted(trial.job_id for trial in trials) == sorted(stack.all_ids())
    assert_sound(stack.engine, stack.root, stack.all_ids())


@pytest.mark.slow
def test_a_stack_killed_through_a_sweep_loses_and_doubles_no_trial(stack: Stack) -> None:
    parts = started(stack)
    sweep_id = submitted(stack, steps=4, checkpoint=1, pace=0.01)
    assert kill_through(stack, parts, sweep_id, kills=12, pause=1.0) > 3
    assert_whole(stack, sweep_id)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_stack_killed_all_through_a_long_sweep_loses_and_doubles_no_trial(stack: Stack) -> None:
    parts = started(stack)
    sweep_id = submitted(stack, steps=40, checkpoint=4, pace=0.02)
    assert kill_through(stack, parts, sweep_id, kills=150, pause=1.5) > 10
    assert_whole(stack, sweep_id)
