"""Small real jobs of a family in one framework, as its `trial` says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from nightshift.families.family import Family, Task
from nightshift.families.learner import LearnerSetup, LearnerState, Splits
from nightshift.families.trial import Trial
from nightshift.names import TRAIN
from nightshift.testing import attempts, devices
from nightshift.testing.datasets import Store, store_of
from nightshift.testing.processes import FROZEN, Server
from nightshift.testing.reasons import require
from shared.specs.families import FAMILIES
from shared.specs.jobs import TrainJob, job_spec_adapter
from worker import families
from worker.hardware.frameworks import forkserver_environment, preloads
from worker.training.trainer import AtEpoch, Plan


@dataclass(frozen=True)
class Case:
    """A small run of one learner."""

    family: str
    framework: str
    store: Store
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    #: A job of inference for each task that is tried.
    inference: Sequence[Mapping[str, Any]]
    server: Server
    #: Largest difference of a resumed run on a GPU (`Trial`).
    gpu_tolerance: float
    #: Called in the process of each attempt before it begins.
    prepare: Callable[[], None] | None = None

    @classmethod
    def of(
        cls, name: str, framework: str, *, server: Server | None = None, prepare: Callable[[], None] | None = None
    ) -> Case:
        """Return the case of a family's trial."""
        family = FAMILIES[name]
        trial = family.trial or _default(family)
        inference = trial.inference or [_inference(family, task) for task in family.tasks]
        return cls(
            family=name,
            framework=framework,
            store=store_of(family),
            model=trial.model,
            training=trial.training,
            inference=inference,
            server=server or server_of(framework),
            gpu_tolerance=trial.gpu_tolerance,
            prepare=prepare,
        )

    def __str__(self) -> str:
        return f"{self.family}-{self.framework}"

    @property
    def tolerance(self) -> float:
        """Largest difference of a resumed run on the chosen device; 0: none, to the last bit."""
        return self.gpu_tolerance if devices.kind() == "gpu" else 0.0

    @property
    def watched(self) -> str:
        """A metric that early stopping can watch after each epoch of the shortest run."""
        found = FAMILIES[self.family]
        return "loss" if "loss" in found.watchable else found.watched

    def spec(self, **training: Any) -> dict[str, Any]:
        """Return the spec of a job; more settings of training may be given."""
        body = {
            "kind": TRAIN,
            "dataset": "any",
            "model": {"family": self.family, "framework": self.framework, **self.model},
            "training": {**self.training, **training},
            "checkpoint": {"every_steps": 25, "every_seconds": None, "keep_last": 2},
        }
        return job_spec_adapter.validate_json(json.dumps(body)).model_dump(mode="json")

    def job(self, **training: Any) -> TrainJob:
        """Return the job of `spec`."""
        return TrainJob.model_validate_json(json.dumps(self.spec(**training)))

    def attempt(self, spec: dict[str, Any], folder: Path, data_set: Path, **how: Any) -> int | None:
        """Run an attempt of a job (`attempts.attempt`)."""
        require(self.framework)
        return attempts.attempt(spec, folder, data_set, server=self.server, prepare=self.prepare, **how)

    def load_splits(self, data_set: Path, **training: Any) -> Splits:
        """Return the data of a job."""
        job = self.job(**training)
        splits: Splits = families.part(self.family, "load_splits")(data_set, job.model, job.training)
        return splits

    def build(self, splits: Splits, **training: Any) -> Any:
        """Return a learner in this process, as a job on the chosen device gets it."""
        require(self.framework)
        job = self.job(**training)
        plan = Plan(job.training, splits.length)
        setup = LearnerSetup(job.model, job.training, plan.total_steps, devices.kind(), attempts.THREADS, splits.facts)
        return families.load(self.family, self.framework)(setup)

    def at_epoch(self, learner: Any, splits: Splits, folder: Path, **training: Any) -> AtEpoch | None:
        """Return the family's action after each epoch, as in a job."""
        start = families.optional_part(self.family, "start_epochs")
        if start is None:
            return None
        job = self.job(**training)
        begun: AtEpoch = start(learner, splits, job.model, job.training, folder, lambda: False, print)
        return begun


def snapshot(learner: Any) -> LearnerState:
    """Return a copy of the state that later steps do not change."""
    state = learner.state()
    return LearnerState({name: np.copy(array) for name, array in state.arrays.items()}, dict(state.facts))


def server_of(framework: str) -> Server:
    """Return what the attempts of a framework are forked from."""
    modules = (*preloads(framework), "nightshift.testing.attempts", FROZEN)
    return Server(modules, tuple(forkserver_environment(attempts.THREADS).items()))


def _default(family: Family) -> Trial:
    """Return the trial of a family that has none: small images, and everything that has state."""
    training = {
        **family.training_for(None), "epochs": 2, "batch_size": 32, "validation_split": 0.2,
        "augment": sorted(family.augmentations), "early_stopping": {"metric": family.watched, "patience": 5},
    }  # fmt: skip
    return Trial(model=_small_images(family), training=training)


def _small_images(family: Family) -> dict[str, Any]:
    """Return the smallest size of images that the default preset can have."""
    if not {"image_size", "image_channels"} <= family.model.model_fields.keys():
        return {}
    for side in (8, 16, 32):
        small = {"image_size": [side, side], "image_channels": 1}
        try:
            family.model.model_validate_json(json.dumps(small))
        except ValidationError:
            continue
        return small
    return {}


def _inference(family: Family, task: Task) -> dict[str, Any]:
    """Return enough of a task for a handful of chunks."""
    if task != "generate":
        return {"task": task}
    if family.prompted:
        return {"task": task, "prompts": ["the 3 cats", "", "saw"] * 40, "max_new_tokens": 4}
    return {"task": task, "count": 130}
