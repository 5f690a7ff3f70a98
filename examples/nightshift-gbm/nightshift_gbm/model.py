"""A trained model in a folder: `trees.npz` and `model.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sklearn

from nightshift_gbm import tables, trees
from nightshift_gbm.tables import Feature
from nightshift_gbm.trees import Model

TREES, FACTS = "trees.npz", "model.json"


@dataclass(frozen=True)
class Predictor:
    """A model with the columns that it reads. `classes` is empty for regression."""

    model: Model
    columns: Sequence[Feature]
    classes: list[Any]
    settings: Mapping[str, Any]

    def predict(self, table: pa.Table) -> npt.NDArray[Any]:
        """Return a class or a number for each row."""
        found = self.model.predict(tables.matrix(table, self.columns))
        return np.array(self.classes)[found.astype(int)] if self.classes else found

    def probabilities(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """Return the probabilities of the classes, [rows, classes]."""
        return np.asarray(self.model.predict_proba(tables.matrix(table, self.columns)))


def save(predictor: Predictor, folder: Path) -> Path:
    """Write the model into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / TREES, **trees.to_arrays(predictor.model))
    facts = {
        "classes": predictor.classes,
        "columns": tables.as_json(predictor.columns),
        "settings": dict(predictor.settings),
        "scikit_learn": sklearn.__version__,
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))
    return folder


def load(folder: Path) -> Predictor:
    """Read a model. Raises ValueError for one of another version of scikit-learn."""
    facts = json.loads((folder / FACTS).read_text())
    with np.load(folder / TREES, allow_pickle=False) as arrays:
        columns, classes = tables.from_json(facts["columns"]), len(facts["classes"])
        model = trees.new_model(facts["settings"], np.random.RandomState(0), classes=classes)
        model = trees.from_arrays(arrays, model, columns=len(columns), classes=classes)
    return Predictor(model, columns, facts["classes"], facts["settings"])
