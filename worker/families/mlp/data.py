"""Tables for a perceptron: inputs `x` float32 [n, width], and `y` int64 (classes) or float64 (numbers, as given) [n].

A column named `split` whose values are train, valid and test divides the rows; without one a fifth of the rows with a
target is the test part, of classes a fifth of each. The test part has `row`, the places of its rows in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.families.learner import Array, Splits
from nightshift.families.training import Training
from shared.datasets.ingest.build import stratified_test_rows
from shared.errors import BadData
from worker.families.mlp import columns, fitting, summaries, targets
from worker.families.mlp.encoding import Encoding
from worker.families.mlp.family import MlpModel
from worker.families.mlp.fitting import SPLIT
from worker.families.mlp.targets import Scale, Target
from worker.training.numerics.data_order import validation_split

#: Names of parts in a column `split`.
_PARTS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}


def load_splits(dataset_dir: Path, model: MlpModel, training: Training) -> Splits:
    """Load the parts of a table, and fit the encoding of its columns to the rows that are trained on.

    Raises BadData if the table does not fit the model.
    """
    path = columns.table_file(dataset_dir)
    types = columns.types_of(path)
    if (unfit := summaries.unknown(model, "the data set", types)) is not None:
        raise BadData(f"{'.'.join(map(str, ('model', *unfit.loc)))}: {unfit.msg}")
    table = _read(path, types, [str(model.target), *fitting.candidates(model, types, divided=False)])
    target, notes = targets.read_target(table, model), list[str]()
    parts = _trained_parts(table, target, model, training, notes)
    names = fitting.candidates(model, types, divided=_names_parts(table))
    encoding = fitting.fitted(table, names, model, parts["train"], notes)
    facts: dict[str, Any] = {"preprocessing": {"task": target.task, "columns": encoding.as_json()}}
    if target.task == "classes":
        facts["classes"] = list(target.classes)
    else:
        facts["preprocessing"]["scale"] = asdict(Scale.fitted(target.values[parts["train"]]))
    return _splits(table, encoding, target, parts, facts, tuple(notes))


def load_tuning(dataset_dir: Path, model: MlpModel, training: Training, facts: Mapping[str, Any]) -> Splits:
    """Load a table for fine-tuning a model with these facts: its columns and statistics stay.

    Classes that the model knows keep their places; other ones are the table's own, in a new output. Raises BadData.
    """
    table, target, notes = _read_for(dataset_dir, model, facts)
    if target.task == "classes" and set(target.classes) <= set(facts["classes"]):
        target = targets.in_classes(target, facts["classes"])
    parts = _trained_parts(table, target, model, training, notes)
    kept = {**facts, "classes": list(target.classes)} if target.task == "classes" else dict(facts)
    return _splits(table, Encoding.of(facts), target, parts, kept, tuple(notes))


def load_test(dataset_dir: Path, model: MlpModel, facts: Mapping[str, Any], tokenizer: str | None = None) -> Splits:
    """Load the test part of a table for evaluating a trained model; classes are matched by name.

    Raises BadData for classes that the model does not know, and for missing columns.
    """
    table, target, notes = _read_for(dataset_dir, model, facts)
    parts = _parts(table, target, notes)
    if target.task == "classes":
        target = targets.in_classes(target, facts["classes"])
    none = np.empty(0, np.int64)
    return _splits(table, Encoding.of(facts), target, {"test": parts["test"], "train": none}, dict(facts), tuple(notes))


def _read_for(dataset_dir: Path, model: MlpModel, facts: Mapping[str, Any]) -> tuple[pa.Table, Target, list[str]]:
    """Read what a trained model needs of a table, with its target."""
    path = columns.table_file(dataset_dir)
    needed = [str(model.target), *(column.name for column in Encoding.of(facts).columns)]
    table = _read(path, columns.types_of(path), needed)
    return table, targets.read_target(table, model, facts), []


def _read(path: Path, types: Mapping[str, str], names: list[str]) -> pa.Table:
    """Read columns, and the one of parts if there is one."""
    return columns.read(path, list(dict.fromkeys([*names, *([SPLIT] if SPLIT in types else [])])))


# -- parts ------------------------------------------------------------------------------------------


def _trained_parts(
    table: pa.Table, target: Target, model: MlpModel, training: Training, notes: list[str]
) -> dict[str, Array]:
    """Return the rows of the training, validation and test part. Raises BadData if there is too little to train on."""
    parts = _parts(table, target, notes)
    if training.validation_split == 0:
        parts.pop("valid", None)
    elif "valid" not in parts and len(parts["train"]) > 1:
        kept, held_out = validation_split(training.seed, len(parts["train"]), training.validation_split)
        parts = {**parts, "valid": parts["train"][held_out], "train": parts["train"][kept]}
    if len(parts["train"]) < 2:
        raise BadData(f"the table has {len(parts['train'])} rows to train on; at least two are needed")
    targets.check_two_classes(target, parts["train"], model)
    return parts


def _parts(table: pa.Table, target: Target, notes: list[str]) -> dict[str, Array]:
    """Return the rows of each part, of those that have a target. `train` and `test` are always there."""
    if left := table.num_rows - len(target.rows):
        notes.append(f"left out, no target: {left:,} of {table.num_rows:,} rows")
    given = _given_parts(table, target.rows)
    if given is not None and "test" in given:
        return {"train": np.empty(0, np.int64), **given}
    rows = target.rows if given is None else given["train"]
    in_test = stratified_test_rows(target.strata(rows), summaries.TEST_SHARE)
    return {**(given or {}), "train": rows[~in_test], "test": rows[in_test]}


def _given_parts(table: pa.Table, rows: Array) -> dict[str, Array] | None:
    if not _names_parts(table):
        return None
    names = table[SPLIT].take(pa.array(rows))
    found = {part: rows[_are(names, part)] for part in ("train", "valid", "test")}
    return {part: places for part, places in found.items() if len(places)} | {"train": found["train"]}


def _are(names: pa.ChunkedArray, part: str) -> Array:
    values = pa.array([name for name, found in _PARTS.items() if found == part])
    return np.asarray(pc.is_in(names, value_set=values).to_numpy(), np.bool_)


def _names_parts(table: pa.Table) -> bool:
    """Return whether the column `split` is there and holds nothing but names of parts."""
    if SPLIT not in table.column_names or columns.content(table[SPLIT]) != "text":
        return False
    return set(pc.unique(table[SPLIT]).to_pylist()) <= _PARTS.keys()


def _splits(
    table: pa.Table,
    encoding: Encoding,
    target: Target,
    parts: Mapping[str, Array],
    facts: Mapping[str, Any],
    notes: tuple[str, ...],
) -> Splits:
    inputs = fitting.encoded(table, encoding, parts)
    found = {part: {"x": inputs[part], "y": target.values[rows]} for part, rows in parts.items()}
    if "test" in found:
        found["test"]["row"] = parts["test"]
    test = found.get("test") if len(parts["test"]) else None
    return Splits(found["train"], found.get("valid"), test, facts, len(parts["train"]), notes=notes)
