"""Own families of models: what an installed package declares, and what its learners implement.

A package declares a family by an entry point that leads to a `Family`:

    [project.entry-points."nightshift.families"]
    resnet = "my_package.family:FAMILY"

docs/howto/add-family.md shows one from beginning to end.
"""

from __future__ import annotations

from nightshift.families.family import CLASSIFIER_METRICS, GROUP, IMAGE_CLASSIFIER, Family, Parts, Task
from nightshift.families.fields import COLUMN, Count, ImageSize, ModelSpec, Probability, Spec, Width, field_error
from nightshift.families.layers import Layer
from nightshift.families.learner import (
    Array,
    Evaluation,
    Learner,
    LearnerSetup,
    LearnerState,
    PerExampleScores,
    ScalesRate,
    Splits,
)
from nightshift.families.training import EarlyStopping, Training
from nightshift.families.trial import Trial
from nightshift.metrics import Metric
from nightshift.names import Framework

__all__ = [
    "CLASSIFIER_METRICS", "COLUMN", "GROUP", "IMAGE_CLASSIFIER", "Array", "Count", "EarlyStopping", "Evaluation",
    "Family", "Framework", "ImageSize", "Layer", "Learner", "LearnerSetup", "LearnerState", "Metric", "ModelSpec",
    "Parts", "PerExampleScores", "Probability", "ScalesRate", "Spec", "Splits", "Task", "Training", "Trial",
    "Width", "field_error",
]  # fmt: skip
