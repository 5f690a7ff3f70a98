"""Small real jobs of every family and framework, run in their own processes and killed where a test wants.

A row in CASES adds a new learner to the conformance tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightshift.families.learner import LearnerSetup, LearnerState, Splits
from shared.datasets.builtins import digits
from shared.datasets.ingest.build import store_images
from shared.datasets.ingest.build_text import Block, TextSource, TextSplit, store_text
from shared.specs.jobs import TrainJob, job_spec_adapter
from tests.support import warm
from tests.support.unpainted import leave_plots_blank
from worker import families, kinds
from worker.run_job import PrintingReporter, make_assignment
from worker.runners.messages import Champion, Result, Stopped
from worker.training.trainer import AtEpoch, Plan

#: One CPU thread: the machine is shared, and results are bitwise equal only for the same number.
THREADS = 1


def store_digits(root: Path) -> Path:
    return store_images(root, digits()).folder


def store_tale(root: Path) -> Path:
    lines = [f"the {n % 17} cats saw {n % 5} dogs and {n % 3} birds\n" for n in range(600)]
    parts = {"train": lines[:500], "test": lines[500:]}

    def split(text: list[str]) -> TextSplit:
        data = "".join(text).encode()
        return TextSplit(lambda: iter([Block(data, [len(data)])]))

    return store_text(root, TextSource({name: split(text) for name, text in parts.items()})).folder


@dataclass(frozen=True)
class Case:
    """A small run of one learner with everything enabled that has state."""

    family: str
    framework: str
    store: Callable[[Path], Path]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    watched: str = "loss"  # a metric that early stopping can watch after each epoch of the shortest run

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Metrics of its steps."""
        return {"cnn": ("loss", "accuracy"), "gru_lm": ("loss", "perplexity"), "gan": ("g_loss", "d_loss")}[self.family]

    def spec(self, **training: Any) -> dict[str, Any]:
        body = {
            "kind": "train",
            "dataset": "any",
            "model": {"family": self.family, "framework": self.framework, **self.model},
            "training": {**self.training, **training},
            "checkpoint": {"every_steps": 25, "every_seconds": None, "keep_last": 2},
        }
        return job_spec_adapter.validate_json(json.dumps(body)).model_dump(mode="json")

    def job(self, **training: Any) -> TrainJob:
        return TrainJob.model_validate_json(json.dumps(self.spec(**training)))


_CNN = {
    "image_size": [8, 8], "filters": [4, 6], "pool": [True, False], "kernel_size": 2, "dense": [12], "dropout": 0.2,
    "normalization": "batch",
}  # fmt: skip
_CNN_TRAINING = {
    "epochs": 2, "batch_size": 4, "learning_rate": 0.002, "lr_schedule": "onecycle", "grad_clip": 5.0,
    "validation_split": 0.2, "augment": ["shift", "rotate", "erase"],
    "early_stopping": {"metric": "val_loss", "patience": 5},
}  # fmt: skip
_GRU = {"embedding": 8, "units": [10, 10], "dropout": 0.1, "window": 5, "vocabulary_size": 40}
_GRU_TRAINING = {
    "epochs": 2, "batch_size": 4, "learning_rate": 0.005, "lr_schedule": "cosine", "warmup_steps": 20, "grad_clip": 1.0,
    "validation_split": 0.2, "augment": ["word_dropout"], "early_stopping": {"metric": "val_loss", "patience": 5},
}  # fmt: skip
_GAN = {
    "image_size": [8, 8], "latent": 6, "generator_dense": [7], "generator_filters": [6, 5], "generator_dropout": 0.1,
    "discriminator_filters": [4, 6], "discriminator_dense": [7], "discriminator_dropout": 0.1,
}  # fmt: skip
_GAN_TRAINING = {
    "epochs": 2, "batch_size": 4, "learning_rate": 0.002, "lr_schedule": "cosine", "warmup_steps": 20, "grad_clip": 5.0,
    "validation_split": 0.2, "early_stopping": {"metric": "val_frechet_distance", "patience": 5},
}  # fmt: skip

CASES = {
    f"{family}-{framework}": Case(family, framework, store, model, training, watched)
    for family, store, model, training, watched in (
        ("cnn", store_digits, _CNN, _CNN_TRAINING, "loss"),
        ("gru_lm", store_tale, _GRU, _GRU_TRAINING, "loss"),
        ("gan", store_digits, _GAN, _GAN_TRAINING, "val_frechet_distance"),
    )
    for framework in ("torch", "tensorflow")
}


# -- in this process ------------------------------------------------------------------------------


def load_splits(case: Case, data_set: Path, **training: Any) -> Splits:
    job = case.job(**training)
    splits: Splits = families.part(case.family, "load_splits")(data_set, job.model, job.training)
    return splits


def build(case: Case, splits: Splits, **training: Any) -> Any:
    job = case.job(**training)
    plan = Plan(job.training, splits.length)
    setup = LearnerSetup(job.model, job.training, plan.total_steps, "cpu", THREADS, splits.facts)
    return families.load(case.family, case.framework)(setup)


def at_epoch(case: Case, learner: Any, splits: Splits, folder: Path, **training: Any) -> AtEpoch | None:
    """Return the family's action after each epoch, as in a job."""
    start = families.optional_part(case.family, "start_epochs")
    if start is None:
        return None
    job = case.job(**training)
    begun: AtEpoch = start(learner, splits, job.model, job.training, folder, lambda: False, print)
    return begun


# -- in separate processes ------------------------------------------------------------------------


def snapshot(learner: Any) -> LearnerState:
    """Return a copy of the state that later steps do not change."""
    state = learner.state()
    return LearnerState({name: np.copy(array) for name, array in state.arrays.items()}, state.facts)


class KilledReporter(PrintingReporter):
    """Kills its process with SIGKILL at the nth check for a stop request."""

    def __init__(
        self, folder: Path, kill_after: int | None, stop_after: tuple[int, str] | None, keep_last: int = 2
    ) -> None:
        super().__init__(folder, keep_last, keep_best=True)
        self.asked, self.kill_after, self.stop_after = 0, kill_after, stop_after

    def stop_requested(self) -> str | None:
        self.asked += 1
        if self.asked == self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.stop_after and self.asked >= self.stop_after[0]:
            return self.stop_after[1]
        return None

    def _print(self, *lines: str) -> None:
        pass


#: Metric rows of a run, few enough that checkpoints fall between two of them.
ROWS = 20


def _reduce_output() -> None:
    """Write blank plots and few metric rows, because both would take longer than the steps."""
    from worker.training import trainer

    trainer.ROWS = ROWS
    leave_plots_blank()


def _attempt(
    spec: dict[str, Any],
    folder: Path,
    data_set: Path,
    threads: int,
    kill_after: int | None,
    stop_after: tuple[int, str] | None,
    model: Path | None,
    champion: Path | None,
) -> None:
    _reduce_output()
    assignment = make_assignment(spec, folder, data_set, threads, model)
    keep_last = sys.maxsize if spec["kind"] == "batch_infer" else 2
    reporter = KilledReporter(folder, kill_after, stop_after, keep_last)
    reporter.champion_dir = champion
    outcome: Result | Stopped = kinds.run(assignment, reporter)
    (folder / "outcome.json").write_text(outcome.model_dump_json())


def attempt(
    spec: dict[str, Any],
    folder: Path,
    data_set: Path,
    *,
    threads: int = THREADS,
    kill_after: int | None = None,
    stop_after: tuple[int, str] | None = None,
    model: Path | None = None,
    champion: Path | None = None,
) -> int:
    """Run an attempt of a job in `folder`, resumed if possible, and return its exit code (-9: killed).

    `model` is another job's `artifacts/model` to start from, `champion` one to compare with.
    """
    process = warm.Process(
        "training", target=_attempt, args=(spec, folder, data_set, threads, kill_after, stop_after, model, champion)
    )
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


@dataclass(frozen=True)
class Left:
    """The results of a finished run that a user sees."""

    weights_sha256: str
    rows: dict[tuple[str, int], float]  # (name, step) -> value
    figures: dict[str, float]  # of the result

    @classmethod
    def of(cls, folder: Path) -> Left:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        points = [json.loads(line) for line in lines]
        rows = {(point["name"], point["step"]): point["value"] for point in points}
        assert len(rows) == len(points), "a metric row was written twice"
        model = folder / "artifacts" / "model" / "model.safetensors"
        timeless = {key: 0.0 if key[0] == "samples_per_second" else value for key, value in rows.items()}
        return cls(hashlib.sha256(model.read_bytes()).hexdigest(), timeless, outcome(folder)["metrics"])


def outcome(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    return found


class NullReporter:
    """A reporter that records, for loops that run in the test's process."""

    def __init__(self, stops: Mapping[int, str] | None = None) -> None:
        self.frames: list[Any] = []
        self.rows: list[tuple[str, int, float]] = []
        self.asked, self.stops = -1, stops or {}
        self.phases: list[str] = []

    def started(self, frame: Any) -> None:
        self.frames.append(frame)

    progress = checkpoint = artifact = started

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def metrics(self, points: Sequence[Any]) -> None:
        self.rows += [(point.name, point.step, point.value) for point in points]

    def champion(self) -> Champion:
        return Champion()

    def log(self, message: str, level: str = "info") -> None:
        self.frames.append((level, message))

    def stop_requested(self) -> str | None:
        self.asked += 1
        return self.stops.get(self.asked)
