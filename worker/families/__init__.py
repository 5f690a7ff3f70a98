"""Families of models: the folder is the family, the file the framework. Adding a family is adding a folder.

Each family's package offers
    data.load_splits(dataset_dir, model, training) -> Splits
    data.load_test(dataset_dir, model, facts, tokenizer) -> Splits   a set as a trained model is judged on it
    data.adapted(dataset_dir, model) -> changes                     optional: what fine-tuning on a set changes
    rows.open_source(learner, parent, inference, dataset_dir) -> Source   batch inference
    weights.FEATURES                                                prefixes of what `freeze: features` keeps
    weights.shapes_of(model, facts) -> {name: shape}                what is learned, without a device
    metrics.report(learner, splits, model, training) -> Report      the end of a job, on the test part
    examples.examples(learner, splits, model) -> Examples           how a model did on each row, for promotions
    figures.draw(report, history, folder)                           PNG files beside the report
    epochs.begin(learner, splits, model, training, job_dir, stop, say) -> AtEpoch     optional: its work after each
    epoch, epochs.collect(job_dir, folder, last) -> paths                       and what that left, as artifacts
    torch_learner.build(setup) / tensorflow_learner.build(setup) -> Learner
and nothing outside the package names a family.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import cast

from shared.errors import UnsupportedJob
from worker.training.learner import Learner, LearnerSetup


def load(family: str, framework: str) -> Callable[[LearnerSetup], Learner]:
    """The `build` function of a family in a framework. Imports that framework, and only that one."""
    module = part(family, f"{framework}_learner")
    return cast("Callable[[LearnerSetup], Learner]", module.build)


def has(family: str, name: str) -> bool:
    """Whether a family offers an optional module."""
    return find_spec(f"worker.families.{family}.{name}") is not None


def part(family: str, name: str) -> ModuleType:
    """A module of a family: `data`, `metrics`, `figures`, `<framework>_learner`."""
    path = f"worker.families.{family}.{name}"
    if not family.isidentifier() or not find_spec("worker.families." + family) or not find_spec(path):
        raise UnsupportedJob(f"this worker has no {name} for the family {family}")
    return import_module(path)
