"""A checkpoint passes only the files that docs/architecture.md names, followed from learner to SQL row."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sqlalchemy import Engine, select

from nightshift.families.learner import Learner, LearnerSetup, LearnerState, Splits
from nightshift.families.training import Training
from shared.db.engine import read
from shared.db.schema import checkpoints
from shared.job_files.checkpoint_record import CheckpointRecord
from shared.settings import Settings
from shared.specs.jobs import TrainJob
from shared.specs.training import CheckpointPolicy
from tests.support.factories import submit_job
from worker import families
from worker.hardware.devices import cpu
from worker.runners.forkserver_client import Exit
from worker.runners.messages import Assignment, CheckpointSaved, Result, Started
from worker.runners.output_capture import LineReader
from worker.runners.reporter import Channel, Reporter
from worker.runners.runner_pool import Runner
from worker.supervisor.batch import Batch
from worker.supervisor.context import WorkerContext
from worker.supervisor.supervisor import Supervisor
from worker.training.checkpoints import CheckpointWriter, Snapshot
from worker.training.state import RunState
from worker.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
CAP = 120.0
TYPES = (LearnerState, Snapshot, CheckpointRecord, CheckpointSaved)
#: Every frame passes it; it holds types and their JSON.
CODEC = "worker/runners/messages.py"


def walk() -> list[str]:
    """The files of the page's numbered list, in order."""
    page = (ROOT / "docs/architecture.md").read_text()
    section = page.split("## A checkpoint, from the learner to its SQL row\n")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)` – ", section, re.M)


class Trace:
    """Notes, in order, the project's files in which a function is given, holds or returns a checkpoint's values."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.types: set[type] = set()
        self.row_is_written = threading.Event()

    def __enter__(self) -> Trace:
        threading.setprofile(self._look)
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _look(self, frame: Any, event: str, result: Any) -> None:
        name = ours(frame.f_code.co_filename)
        if name is None or event not in ("call", "return") or self.row_is_written.is_set():
            return
        found = [type_ for value in (*frame.f_locals.values(), result) for type_ in carried(value)]
        self.types.update(found)
        if found and name not in self.files:
            self.files.append(name)
        if event == "return" and frame.f_code.co_name == "commit_checkpoint":
            self.row_is_written.set()


@cache
def ours(file: str) -> str | None:
    """The path of a file of the project, or None."""
    path = file.removeprefix(f"{ROOT}/")
    return path if path.startswith(("api/", "shared/", "worker/")) else None


def carried(value: Any) -> Iterator[type]:
    """The types of a checkpoint that a value is, or holds."""
    if isinstance(value, TYPES):
        yield type(value)
    elif isinstance(value, bytes) and b'"type":"checkpoint"' in value:
        yield CheckpointSaved
    elif isinstance(value, Batch):
        yield from map(type, value.checkpoints)
    elif isinstance(value, (list, tuple)):
        for one in value:
            if isinstance(one, TYPES):
                yield type(one)


class Handle:
    """What a supervisor sees of a runner's process."""

    pid = None

    def __init__(self, on_exit: Callable[[], None]) -> None:
        self.on_exit = on_exit
        self.exit: Exit | None = None

    def end(self) -> None:
        self.exit = Exit(code=0)
        self.on_exit()

    def signal(self, number: int) -> None:
        return None


class Threads:
    """Runners that are threads of this process."""

    frameworks, installed, slot = frozenset({"torch"}), ["torch"], None
    unusable: ClassVar[dict[str, str]] = {}

    def __init__(self, work: Callable[[Assignment, Reporter], None]) -> None:
        self._work = work

    def take(self, framework: str, on_exit: Callable[[], None], *_: object) -> Runner:
        ours, theirs = socket.socketpair()
        handle: Any = Handle(on_exit)
        threading.Thread(target=self._run, args=(theirs, handle), name="runner", daemon=True).start()
        return Runner(framework, handle, ours, nothing(), nothing())

    def warm_up(self, *_: object) -> None:
        return None

    def idle(self) -> None:
        return None

    def fork_next(self) -> None:
        return None

    def _run(self, sock: socket.socket, handle: Handle) -> None:
        channel = Channel(sock, on_end=lambda: None)
        assignment = channel.receive_assignment(lambda _: None)
        assert assignment is not None
        channel.start()
        try:
            self._work(assignment, Reporter(channel))
        finally:
            handle.end()


def nothing() -> LineReader:
    """The output of a runner that prints nothing."""
    ours, theirs = os.pipe()
    os.close(theirs)
    return LineReader(ours)


def small_job() -> tuple[dict[str, Any], Learner, Splits]:
    """A convolutional network that is trained for one step; what it is trained on does not matter."""
    model = {"family": "cnn", "image_size": [8, 8], "filters": [2], "pool": [True], "dense": [4]}
    spec: dict[str, Any] = {"model": model, "training": {"epochs": 1, "batch_size": 4, "validation_split": 0}}
    job = TrainJob.model_validate_json(json.dumps({"kind": "train", "dataset": "digits", **spec}))
    images = {"x": np.zeros((4, 8, 8, 1), np.uint8), "y": np.arange(4) % 2}
    splits = Splits(images, None, None, {"classes": ["a", "b"], "image": [8, 8, 1]}, 4)
    setup = LearnerSetup(job.model, job.training, 1, "cpu", 1, splits.facts)
    return spec, families.load("cnn", "torch")(setup), splits


def test_a_checkpoint_passes_the_files_of_the_walk_in_its_order(sqlite_engine: Engine, tmp_path: Path) -> None:
    trace, (spec, learner, splits) = Trace(), small_job()

    def work(assignment: Assignment, reporter: Reporter) -> None:
        """A step, its checkpoint, and no word more until the row of that is written."""
        reporter.started(Started(pid=os.getpid(), device="cpu"))
        writer = CheckpointWriter(Path(assignment.job_dir), assignment.fence, reporter)
        policy, training = CheckpointPolicy(every_steps=1, every_seconds=None), Training(**spec["training"])
        Trainer(learner, splits, training, policy, writer, reporter, RunState()).run()
        writer.wait()
        assert trace.row_is_written.wait(CAP)
        reporter.end(Result(metrics={}))

    submit_job(sqlite_engine, **spec)
    runners: Any = Threads(work)
    supervisor = Supervisor(WorkerContext("cpu0@test", cpu(), sqlite_engine, Settings(data_dir=tmp_path), runners))
    with trace:
        supervisor.run_one(None)
    with read(sqlite_engine) as conn:
        assert list(conn.scalars(select(checkpoints.c.step))) == [1]
    assert [file for file in trace.files if file != CODEC] == walk()
    assert len(walk()) <= 8
    assert len(trace.types) <= 4
