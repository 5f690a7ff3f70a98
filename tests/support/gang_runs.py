"""Attempts of gangs, with the agents that workers use, in processes of their own, and ranks that die at a step.

Imported by the processes that attempts are forked from, so it imports no pytest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from nightshift.programs import Program
from nightshift.testing import attempts
from nightshift.testing.attempts import Disturbance, KilledReporter
from nightshift.testing.processes import Server
from worker import kinds
from worker.run_job import make_assignment
from worker.runners import runner
from worker.runners.messages import Failed


class LoggingReporter(KilledReporter):
    """Writes the log to `log.txt`."""

    def log(self, message: str, level: str = "info") -> None:
        with (self.folder / "log.txt").open("a") as file:
            file.write(f"{message}\n")


@dataclass(frozen=True)
class Order:
    """An attempt of a gang, as its process gets it: `deaths` are the ranks that die, each before a step."""

    spec: dict[str, Any]
    folder: Path
    data_set: Path
    devices: int
    deaths: tuple[tuple[int, int], ...] = ()
    stop_after: tuple[int, str] | None = None
    #: `package.module:function` of a program that is run instead of an installed one.
    program: str | None = None


def gang_attempt(server: Server, *order: Any, **more: Any) -> int | None:
    """Run an attempt (`Order`) and return its exit code, which is that of the rank that died."""
    return attempts.run(server, _attempt, Order(*order, **more))


def _attempt(order: Order) -> None:
    from worker.training import trainer

    attempts.lead_group()
    trainer.ROWS = attempts.ROWS
    _let_die(order)
    if order.program is not None:
        declared = Program(name="ranks", train=order.program, params=NoParams, framework=order.spec["framework"])
        kinds.program._program = lambda name: declared
    found = make_assignment(order.spec, order.folder, order.data_set, attempts.THREADS)
    names = [f"cpu{number}@test" for number in range(order.devices)]
    assignment = found.model_copy(update={"devices": names})

    def lead() -> bool:
        reporter = LoggingReporter(order.folder, Disturbance(stop_after=order.stop_after))
        ended = runner.run(assignment, reporter)
        if isinstance(ended, Failed):
            time.sleep(runner.PEER_SECONDS)
            _say(order.folder, ended)
            return False
        (order.folder / "outcome.json").write_text(ended.model_dump_json())
        return True

    os.environ["RANK"] = "7"  # as of a worker that a cluster's launcher has started
    sys.stdout.flush()
    code = runner.agent_of(assignment).run(assignment, lead, lambda frame: _say(order.folder, frame))
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


class NoParams(BaseModel):
    """The parameters of a program that has none."""


def rank_program(run: Any) -> None:
    """Add up the ranks, and keep what the environment says of this one."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    total = torch.tensor(float(dist.get_rank() + 1))
    dist.all_reduce(total)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")
    told = run.scratch / "told.json"
    told.write_text(json.dumps({name: os.environ[name] for name in names}))
    run.log({"total": total.item()}, step=1)
    run.save(1, facts={"total": total.item()})
    run.artifact(told)


def mirrored_program(run: Any) -> None:
    """Add up the numbers of the replicas of a strategy over all devices."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy()
    assert strategy.num_replicas_in_sync == run.devices

    def number() -> Any:
        return tf.distribute.get_replica_context().replica_id_in_sync_group + 1

    total = tf.function(lambda: strategy.reduce("SUM", strategy.run(number), axis=None), autograph=False)
    run.log({"total": float(total())}, step=1)
    run.save(1, facts={"devices": run.devices})


def failing_program(run: Any) -> None:
    """Fail in the first rank; the others wait for what never comes."""
    if os.environ["RANK"] == "0":
        raise ValueError("the first rank has no data")
    signal.pause()


def failing_followers(run: Any) -> None:
    """Fail in all ranks but the first, which waits."""
    if os.environ["RANK"] == "0":
        signal.pause()
    raise ValueError(f"rank {os.environ['RANK']} has no data")


def agent_killed(run: Any) -> None:
    """Kill the agent of the ranks, and go on."""
    if os.environ["RANK"] == "0":
        os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def own_learner(folder: Path) -> None:
    """Train a Keras model of an own family on two devices, in one go and resumed, and leave how they differ."""
    import numpy as np

    from nightshift.families.learner import LearnerSetup
    from nightshift.families.training import Training
    from tests.unit.nightshift.families.tensorflow_small import SmallClassifier
    from worker.runners import tensorflow_agent
    from worker.training import gang

    spec = {"kind": "train", "model": {"framework": "tensorflow"}}
    assignment = make_assignment(spec, folder, folder, attempts.THREADS).model_copy(update={"devices": ["one", "two"]})
    random = np.random.default_rng(1)
    data = {"x": random.integers(0, 255, (64, 8, 8, 1), np.uint8), "y": random.integers(0, 3, 64)}

    def built() -> Any:
        model, facts = SimpleNamespace(image_size=(8, 8), image_channels=1), {"classes": ["a", "b", "c"]}
        learner = SmallClassifier(
            LearnerSetup(model, Training(batch_size=9, augment=["shift"]), 20, "cpu", attempts.THREADS, facts)
        )
        learner.set_data(data)
        gang.make_own_draws(gang.current(), learner)
        return learner

    def trained(learner: Any, steps: range) -> Any:
        for step in steps:
            gang.train_step(gang.current(), learner, np.arange(9) + step, step)
        return learner.state()

    def lead() -> bool:
        whole, resumed = built(), built()
        half = trained(whole, range(10))
        end = trained(whole, range(10, 20))
        resumed.load_state(half)
        again = trained(resumed, range(10, 20))
        differ = [name for name, array in end.arrays.items() if not np.array_equal(array, again.arrays[name])]
        same = [name for name, array in end.arrays.items() if np.array_equal(array, half.arrays[name])]
        found = {"devices": end.facts["devices"], "differ": differ, "untrained": same}
        (folder / "found.json").write_text(json.dumps(found))
        return True

    tensorflow_agent.run(assignment, lead, lambda frame: _say(folder, frame))


def _say(folder: Path, frame: Failed) -> None:
    (folder / "failed.json").write_text(frame.model_dump_json())


def _let_die(order: Order) -> None:
    from worker.training import gang

    train_step = gang.train_step

    def dies(the_gang: Any, learner: Any, rows: Any, step: int) -> None:
        if (the_gang.rank, step) in order.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        train_step(the_gang, learner, rows, step)

    gang.train_step = dies
