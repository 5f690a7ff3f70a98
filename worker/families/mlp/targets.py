"""The target of a model: which class or number each row of a table has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.families.learner import Array
from shared.errors import BadData
from worker.families.mlp import columns, summaries
from worker.families.mlp.family import MlpModel
from worker.families.mlp.fitting import moments
from worker.families.mlp.tasks import TableTask, task_of

#: Most classes. More are names of rows, not classes.
MOST_CLASSES = 1_000
_SHOWN = 5


@dataclass(frozen=True)
class Target:
    """The values of a target, one for each row of the table."""

    task: TableTask
    #: Classes in their order, of classes only.
    classes: Sequence[str]
    #: Place of the class (int64), or the number (float64).
    values: Array
    #: The rows that have one.
    rows: Array

    def strata(self, rows: Array) -> Array:
        """Return the labels by which rows are divided evenly into parts."""
        return self.values[rows] if self.task == "classes" else np.zeros(len(rows), np.int64)


def read_target(table: pa.Table, model: MlpModel, known: Mapping[str, Any] | None = None) -> Target:
    """Return the target of a table. `known`: the facts of a trained model, whose task it keeps.

    Raises BadData for a column that is no target of the task.
    """
    name = str(model.target)
    column = table[name]
    if (why := summaries.bad_target(model, columns.content(column))) is not None and columns.content(column) != "text":
        raise BadData(f"column {name!r} {why}")
    task: TableTask = known["preprocessing"]["task"] if known else _task(model, column)
    if task == "numbers":
        values = columns.numbers(name, column)
        return Target(task, (), values, _some(np.flatnonzero(~np.isnan(values)), name))
    found = _class_names(name, column)
    classes = _sorted(pc.unique(found.drop_null()).to_pylist(), columns.content(column) in ("whole", "number"))
    if len(classes) > MOST_CLASSES:
        raise BadData(f"column {name!r} has {len(classes):,} different values; at most {MOST_CLASSES:,} classes")
    values = columns.places(found, classes)
    return Target(task, classes, values, _some(np.flatnonzero(values >= 0), name))


def _task(model: MlpModel, column: pa.ChunkedArray) -> TableTask:
    content = columns.content(column)
    return model.wanted_task or task_of(content, len(pc.unique(column.drop_null())) if content == "whole" else 0)


def _class_names(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if columns.content(column) == "number":
        found = columns.numbers(name, column)
        if (found[~np.isnan(found)] % 1 != 0).any():
            raise BadData(f"column {name!r} holds fractions, which are no classes; use the task numbers")
    return columns.texts(name, column)


def _some(rows: Array, name: str) -> Array:
    if not len(rows):
        raise BadData(f"column {name!r} has no value in any row")
    return rows


def _sorted(names: list[str], numeric: bool) -> list[str]:
    return sorted(names, key=int) if numeric else sorted(names)


def check_two_classes(target: Target, rows: Array, model: MlpModel) -> None:
    """Raise BadData if rows have one class only."""
    if target.task == "classes" and len(found := np.unique(target.values[rows])) < 2:
        only = target.classes[int(found[0])]
        raise BadData(f"column {model.target!r} has only one class ({only}) to train on; a classifier needs two")


def in_classes(target: Target, classes: Sequence[str]) -> Target:
    """Return a target in the order of a model's classes. Raises BadData for classes that the model does not know."""
    known = {name: place for place, name in enumerate(classes)}
    if unknown := [name for name in target.classes if name not in known]:
        more = " …" if len(classes) > _SHOWN else ""
        raise BadData(
            f"the model does not know the classes {', '.join(unknown[:_SHOWN])} of the data set; it knows "
            f"{', '.join(classes[:_SHOWN])}{more}. Fine-tune it on this data set first"
        )
    own = np.array([known[name] for name in target.classes], np.int64)
    values = np.where(target.values < 0, -1, own[target.values])
    return Target(target.task, classes, values, target.rows)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of the numbers that were trained on: models learn standardized ones."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fitted(cls, values: Array) -> Scale:
        """Return the scale of float64 values. Raises BadData if they are too large to compute with."""
        mean, std = moments(values)
        if not np.isfinite(mean) or std > _LARGEST:
            raise BadData("the target's numbers are too large; divide them by a constant")
        return cls(mean, std)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Scale:
        """Return the scale in the facts of a learner."""
        return cls(**facts["preprocessing"]["scale"])


#: Largest standard deviation whose square is a float.
_LARGEST = 1e150
