"""Complete jobs that start from a trained model, each in its own process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from nightshift.families.learner import Array
from nightshift.testing.cases import Case
from shared.datasets.store import OpenDataset, publish, staging
from shared.specs.jobs import job_spec_adapter
from tests.support.training import CASES, attempt

OTHER = {"torch": "tensorflow", "tensorflow": "torch"}


@dataclass(frozen=True)
class Trained:
    """A small trained model and its data set."""

    case: Case
    folder: Path
    data_set: Path

    @property
    def model(self) -> Path:
        return self.folder / "artifacts" / "model"

    @property
    def weights(self) -> dict[str, Array]:
        return load_file(self.model / "model.safetensors")


def trained(name: str, root: Path) -> Trained:
    case = CASES[name]
    data_set = case.store(root / "datasets")
    plain = {"epochs": 1, "max_steps": 40, "augment": [], "early_stopping": None}
    assert attempt(case.spec(**plain), root / name, data_set) == 0
    return Trained(case, root / name, data_set)


def spec(kind: str, **fields: Any) -> dict[str, Any]:
    body = {"kind": kind, "model_ref": "parent", "dataset": "any", **fields}
    return job_spec_adapter.validate_json(json.dumps(body)).model_dump(mode="json")


def finetune(framework: str, freeze: str = "none", **training: Any) -> dict[str, Any]:
    training = {"epochs": 1, "max_steps": 30, "batch_size": 16, **training}
    checkpoint = {"every_steps": 10, "every_seconds": None}
    return spec("finetune", framework=framework, freeze=freeze, training=training, checkpoint=checkpoint)


def infer(framework: str, **inference: Any) -> dict[str, Any]:
    return spec("batch_infer", inference={"framework": framework, **inference})


def artifact(folder: Path, name: str) -> Path:
    return folder / "artifacts" / name


def weights(folder: Path) -> dict[str, Array]:
    return load_file(artifact(folder, "model/model.safetensors"))


def table(folder: Path) -> pa.Table:
    return pq.read_table(artifact(folder, "predictions.parquet"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def subset(stored: OpenDataset, keep: list[int], root: Path) -> Path:
    """Store a data set with only these classes of another, in this order."""
    splits = {}
    with staging(root) as folder:
        for split in stored.splits:
            y = np.asarray(stored.y(split))
            rows = np.isin(y, keep)
            np.save(folder / f"{split}_x.npy", np.asarray(stored.x(split))[rows])
            np.save(folder / f"{split}_y.npy", np.array([keep.index(label) for label in y[rows]], np.int64))
            splits[split] = {"count": int(rows.sum())}
        names = [stored.classes[label] for label in keep]
        return publish(folder, {**stored.meta, "classes": names, "splits": splits}).folder
