"""A gang through real workers of two CPU slots: claimed whole, killed at random, exact, and gone at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.redis import running_redis
from tests.support.stack import Process, Stack, eventually, gone, open_stack

pytest.importorskip("torch")
pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.timeout(600)]

BODY: dict[str, Any] = {
    "kind": "train", "dataset": "digits", "resources": {"devices": 2, "device": "cpu"},
    "checkpoint": {"every_steps": 50, "every_seconds": None},
}  # fmt: skip
CNN = {"family": "cnn", "image_size": [8, 8], "filters": [4], "pool": [True], "kernel_size": 3, "dense": [8]}
GAN = {
    "family": "gan", "image_size": [8, 8], "latent": 4, "generator_filters": [4, 4], "discriminator_filters": [4, 4],
}  # fmt: skip
#: Models, and steps that take long enough for a kill in their midst.
MODELS = {
    "cnn-torch": ({**CNN, "framework": "torch"}, 1200),
    "gan-torch": ({**GAN, "framework": "torch"}, 400),
    "cnn-tensorflow": ({**CNN, "framework": "tensorflow"}, 600),
}


@pytest.fixture(params=MODELS)
def body(request: pytest.FixtureRequest) -> dict[str, Any]:
    model, steps = MODELS[request.param]
    training = {"epochs": 100, "max_steps": steps, "batch_size": 32, "validation_split": 0}
    return {**BODY, "model": model, "training": training}


@pytest.fixture
def stack(tmp_path: Path, database_url: str, body: dict[str, Any]) -> Iterator[Stack]:
    framework = body["model"]["framework"]
    settings = {"kinds": "unpainted", "frameworks": framework, "torch_threads": 1, "preload": "true"}
    with running_redis(tmp_path) as redis, open_stack(tmp_path, database_url, redis.url, **settings) as stack:
        yield stack


def weights(stack: Stack, job_id: str) -> str:
    return {row.path: row.sha256 for row in stack.artifacts(job_id)}["model/model.safetensors"]


def ranks(stack: Stack, workers: list[Process]) -> list[psutil.Process]:
    """Return the processes of the gang: in torch its ranks, in TensorFlow one with all of them."""
    runners = [psutil.Process(pid) for worker in workers for pid in stack.runner_pids(worker)]
    every = [one for runner in runners for one in [runner, *runner.children()]]
    return sorted((one for one in every if "jobs" in Path(one.cwd()).parts), key=lambda one: one.pid)


def test_a_gang_whose_rank_was_killed_leaves_the_same_weights_and_no_process(
    stack: Stack, body: dict[str, Any]
) -> None:
    workers = [stack.worker(0), stack.worker(1)]
    stack.beat()
    eventually("both devices are known", lambda: stack.held() == [None, None])
    whole = stack.enter(body, "cpu")
    assert stack.finished(whole).state == "succeeded", stack.logs(whole)
    eventually("its devices are free", lambda: stack.held() == [None, None])
    killed = stack.enter(body, "cpu")
    stack.at_step(killed, 100)
    assert stack.held() == [killed, killed]
    victims = ranks(stack, workers)
    assert len(victims) == (1 if body["model"]["framework"] == "tensorflow" else 2)
    victims[-1].kill()
    assert stack.finished(killed).state == "succeeded", stack.logs(killed)
    assert stack.outcomes(killed) == ["crashed", "succeeded"]
    assert weights(stack, killed) == weights(stack, whole)
    eventually("no rank is left", lambda: all(map(gone, victims)))
    eventually("its devices are free again", lambda: stack.held() == [None, None])
