"""Gangs of every family and of a program, through real workers of two CPU slots: ranks are killed at random.

Their weights are those of a gang that nobody touched, their devices are free at the end, and no process is left. That
of the family `cnn` is in `test_gangs.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import pytest

from nightshift.testing import seeds
from nightshift.testing.cases import Case
from shared.datasets import registry
from shared.datasets.store import Stored
from tests.support import databases
from tests.support.factories import OWNER
from tests.support.plugins import write_package
from tests.support.redis import running_redis
from tests.support.stack import Process, Stack, eventually, gone, open_stack

pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Steps of each job: enough that kills fall between them.
STEPS = {"mlp": 1200, "gan": 400, "gru_lm": 600, "text_classifier": 400, "tagger": 600, "program": 800}
GANG = {"devices": 2, "device": "cpu"}
#: A program whose ranks add up what each draws, so that the sum is right only after an exact resume.
PROGRAM = """
import time

import numpy as np


def train(run):
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, place, start = dist.get_rank(), torch.zeros(4), 0
    if saved := run.latest():
        place, start = torch.from_numpy(saved.arrays()["place"].copy()), saved.step
    for step in range(start + 1, run.params.steps + 1):
        noise = np.random.Generator(np.random.Philox(key=run.seed, counter=[step, rank, 0, 0])).standard_normal(4)
        mine = torch.from_numpy(noise.astype(np.float32))
        dist.all_reduce(mine)
        place = run.params.rate * place + mine
        run.log({"loss": float(place.square().sum())}, step)
        run.progress(step, run.params.steps)
        time.sleep(0.002)
        if step % 40 == 0:
            run.save(step, arrays={"place": place.numpy()})
    model = run.scratch / "model"
    model.mkdir(exist_ok=True)
    np.save(model / "place.npy", place.numpy())
    run.register(model, {"test_loss": float(place.square().sum())})
"""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two workers with a slot each, and a beat, for all gangs of this module."""
    folder = tmp_path_factory.mktemp("gangs")
    packages = write_package(folder / "packages", more=', framework="torch"', training=PROGRAM)
    settings = {
        "kinds": "unpainted", "frameworks": "torch", "torch_threads": 1, "preload": "true", "packages": packages,
        "programs": "walk", "poison_limit": 20,
    }  # fmt: skip
    with ExitStack() as opened:
        if request.param == "sqlite":
            url = databases.sqlite_database(folder, request.getfixturevalue("sqlite_template"))
        else:
            names = [request.getfixturevalue(name) for name in ("postgres_server", "postgres_template")]
            url = opened.enter_context(databases.emptied_database(*names))
        redis = opened.enter_context(running_redis(folder))
        stack = opened.enter_context(open_stack(folder, url, redis.url, **settings))
        for place in (0, 1):
            stack.worker(place)
        stack.beat()
        yield stack


def body(stack: Stack, what: str) -> dict[str, Any]:
    """Return the job of a family's trial with more steps, or of the program."""
    policy = {"every_steps": 40, "every_seconds": None}
    if what == "program":
        params = {"steps": STEPS[what]}
        return {"kind": "run", "program": "walk", "params": params, "checkpoint": policy, "resources": GANG}
    case = Case.of(what, "torch")
    folder = case.store(stack.folder / f"data-{what}")
    target = stack.root / "datasets" / folder.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        folder.rename(target)
    stored = Stored(target.name, target, json.loads((target / "meta.json").read_text()))
    registry.enter(stack.engine, what.replace("_", "-"), stored, owner_id=OWNER)
    spec = case.spec(max_steps=STEPS[what], epochs=200)
    return {**spec, "dataset": what.replace("_", "-"), "checkpoint": policy, "resources": GANG}


def model_of(stack: Stack, job_id: str) -> dict[str, str]:
    return {row.path: row.sha256 for row in stack.artifacts(job_id) if row.path.startswith("model/")}


def ranks(stack: Stack) -> list[psutil.Process]:
    workers: list[Process] = [one for one in stack.processes if one.name.startswith("cpu")]
    found: list[psutil.Process] = []
    for pid in (pid for worker in workers for pid in stack.runner_pids(worker)):
        with suppress(psutil.NoSuchProcess):
            found += psutil.Process(pid).children()
    return sorted(found, key=lambda one: one.pid)


def kill_one(stack: Stack, job_id: str, step: int, chance: random.Random) -> bool:
    """Kill one of the two ranks once the job is at a step, and wait until none is left; False: it was done before."""

    def at_work() -> list[psutil.Process] | None:
        job, found = stack.job(job_id), ranks(stack)
        if job.finished_at is not None:
            return []
        return found if len(found) == GANG["devices"] and (job.progress or {}).get("step", 0) >= step else None

    both = eventually("both ranks are at work, or done", lambda: (found := at_work()) is not None and [found])[0]
    if not both:
        return False
    chance.choice(both).kill()
    eventually("no rank is left", lambda: all(map(gone, both)))
    return True


def killed_at_random(stack: Stack, job: dict[str, Any], steps: int, chance: random.Random) -> tuple[str, int]:
    """Submit a gang and kill its ranks at one or two steps; return it, and how many were killed before it was done."""
    while True:
        job_id = stack.enter(job, "cpu")
        wanted = sorted(chance.sample(range(2, steps // 4), chance.randint(1, 2)))
        kills = sum([kill_one(stack, job_id, step, chance) for step in wanted])
        assert stack.finished(job_id).state == "succeeded", stack.logs(job_id)
        if kills:
            return job_id, kills


@pytest.mark.parametrize("what", list(STEPS))
def test_a_gang_whose_ranks_are_killed_at_random_leaves_what_an_untouched_one_leaves(stack: Stack, what: str) -> None:
    seed = seeds.seed()
    chance, job = random.Random(f"{seed} {what}"), body(stack, what)
    whole = stack.enter(job, "cpu")
    assert stack.finished(whole).state == "succeeded", stack.logs(whole)
    killed, kills = killed_at_random(stack, job, STEPS[what], chance)
    assert stack.outcomes(killed) == [*["crashed"] * kills, "succeeded"], seed
    assert model_of(stack, killed) == model_of(stack, whole), seed
    assert model_of(stack, whole)
    eventually("its devices are free", lambda: stack.held() == [None, None])
    eventually("no rank is left at its end", lambda: ranks(stack) == [])
