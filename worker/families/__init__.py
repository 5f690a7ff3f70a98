"""Model families: one package per family, one learner module per framework.

Each family's package offers
    data.load_splits(dataset_dir, model, training) -> Splits
    data.load_test(dataset_dir, model, facts, tokenizer) -> Splits     a data set for evaluating a trained model
    data.adapted(dataset_dir, model) -> changes                        optional: what fine-tuning on a data set changes
    data.write_extras(root, splits) -> paths                           optional: more files of a model
    batch_inference.open_source(learner, parent, inference, dataset_dir) -> Source
    weights.FEATURES                                                   prefixes of what `freeze: features` keeps
    weights.shapes_of(model, facts) -> {name: shape}                   of the canonical weights, without a device
    evaluation.report(learner, splits, model, training) -> Evaluation  at the end of a job, on the test part
    per_example.examples(learner, splits, model) -> PerExampleScores   scores of each row, for promotions
    plots.draw(report, history, folder, best_step) -> paths            PNG files beside the report
    per_epoch.start(learner, splits, model, training, job_dir, stop, log) -> AtEpoch   optional: work after each epoch
    per_epoch.collect(job_dir, folder, last) -> paths                  optional: artifacts of that work
    torch_learner.build(setup) / tensorflow_learner.build(setup) -> Learner
and code outside the package finds them by these names.
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
    """Return the `build` function of a family's learner. Imports only that framework."""
    module = part(family, f"{framework}_learner")
    return cast("Callable[[LearnerSetup], Learner]", module.build)


def has(family: str, name: str) -> bool:
    """Return whether a family offers an optional module."""
    return find_spec(f"worker.families.{family}.{name}") is not None


def part(family: str, name: str) -> ModuleType:
    """Return a module of a family, such as `data`, `evaluation`, `plots` or `<framework>_learner`.

    Raises UnsupportedJob if the family or the module does not exist.
    """
    path = f"worker.families.{family}.{name}"
    if not family.isidentifier() or not find_spec("worker.families." + family) or not find_spec(path):
        raise UnsupportedJob(f"this worker has no {name} for the family {family}")
    return import_module(path)
