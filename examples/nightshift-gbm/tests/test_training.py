"""The program without a service: what it logs, keeps and registers, and how it stops and resumes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift_gbm import model, training
from nightshift_gbm.program import PROGRAM, Params


def table(rows: int = 200) -> pa.Table:
    random = np.random.default_rng(0)
    age, color = random.normal(size=rows), random.choice(["red", "blue"], rows)
    buys = np.where(age + (color == "red") > 0.5, "yes", "no")
    return pa.table({
        "age": pa.array([None if place == 3 else value for place, value in enumerate(age)]),
        "color": color, "note": [f"sentence {place}" for place in range(rows)], "buys": buys, "spent": age * 3,
    })  # fmt: skip


@dataclass
class Saved:
    step: int
    facts: dict[str, Any]
    content: dict[str, Any]

    def arrays(self) -> dict[str, Any]:
        return self.content


@dataclass
class FakeRun:
    """A run in memory that must stop when `stop_at` trees are reported."""

    folder: Path
    params: Params
    saved: Saved | None = None
    stop_at: int = 10**9
    reason: str = "pause"
    seed: int = 5
    stop_reason: str | None = None
    rows: dict[int, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    registered: dict[str, float] | None = None

    def __post_init__(self) -> None:
        self.dataset, self.scratch = self.folder / "data", self.folder / "scratch"
        self.dataset.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(exist_ok=True)
        pq.write_table(table(), self.dataset / "table.parquet")

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.rows[step] = metrics

    def progress(self, step: int, total: int) -> None:
        if step >= self.stop_at:
            self.stop_reason = self.reason

    def should_stop(self) -> bool:
        return self.stop_reason is not None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def save(self, step: int, *, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
        self.saved = Saved(step, facts, {name: np.array(values) for name, values in arrays.items()})

    def latest(self) -> Saved | None:
        return self.saved

    def artifact(self, path: Path) -> None:
        self.kept[path.name] = path.read_text()

    def register(self, folder: Path, metrics: dict[str, float]) -> None:
        self.registered = metrics


def run(folder: Path, target: str = "buys", saved: Saved | None = None, **more: Any) -> FakeRun:
    params = Params(target=target, trees=20, trees_per_checkpoint=5)
    made = FakeRun(folder, params, saved, **more)
    training.train(made)
    return made


def test_classes_are_learned_and_the_model_predicts_when_it_is_read(tmp_path: Path) -> None:
    ended = run(tmp_path)
    assert list(ended.rows) == [5, 10, 15, 20]
    assert set(ended.rows[20]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert ended.rows[20]["loss"] < ended.rows[5]["loss"]
    assert ended.registered is not None
    assert ended.registered["test_accuracy"] > 0.8
    assert ended.notes == ["columns that are not used: note"]
    assert max(json.loads(ended.kept["importances.json"]).values()) > 0.3
    loaded = model.load(tmp_path / "scratch" / "model")
    assert np.mean(loaded.predict(table()) == np.array(table()["buys"])) > 0.8
    assert loaded.probabilities(table()).shape == (200, 2)


def test_numbers_are_learned(tmp_path: Path) -> None:
    ended = run(tmp_path, "spent")
    assert set(ended.rows[20]) == {"loss", "val_loss"}
    assert ended.registered is not None
    assert math.isfinite(ended.registered["test_loss"])
    predicted = model.load(tmp_path / "scratch" / "model").predict(table())
    assert np.corrcoef(predicted, np.array(table()["spent"]))[0, 1] > 0.9


@pytest.mark.parametrize("stop_at", [7, 10])
def test_a_stopped_run_goes_on_to_the_same_model(tmp_path: Path, stop_at: int) -> None:
    untouched = run(tmp_path / "untouched")
    stopped = run(tmp_path / "stopped", stop_at=stop_at)
    assert stopped.registered is None
    assert stopped.saved is not None
    assert stopped.saved.step == stop_at // 5 * 5
    resumed = run(tmp_path / "resumed", saved=stopped.saved)
    assert resumed.rows == {step: row for step, row in untouched.rows.items() if step > stopped.saved.step}
    for name in (model.TREES, model.FACTS):
        first, second = (tmp_path / one / "scratch" / "model" / name for one in ("untouched", "resumed"))
        assert first.read_bytes() == second.read_bytes()


def test_finish_registers_the_trees_so_far(tmp_path: Path) -> None:
    assert run(tmp_path, stop_at=7, reason="finish").registered is not None
    assert len(model.load(tmp_path / "scratch" / "model").model.estimators_) == 7


def test_a_checkpoint_of_another_version_is_not_used(tmp_path: Path) -> None:
    saved = run(tmp_path, stop_at=5).saved
    assert saved is not None
    saved.facts["scikit_learn"] = "0.1"
    ended = run(tmp_path, saved=saved)
    assert list(ended.rows) == [5, 10, 15, 20]
    assert ended.notes[-1] == "the checkpoint is of scikit-learn 0.1, so training begins anew"


def test_a_target_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the table has no column 'age2'; its columns: age, color, note, buys, spent"):
        run(tmp_path, "age2")
    with pytest.raises(ValueError, match="'note' holds no numbers"):
        training.numbers(table()["note"], "note")
    with pytest.raises(ValueError, match="2 rows with a target are too few"):
        training.split(2, 0.2, 0)


def test_the_program_declares_itself() -> None:
    assert (PROGRAM.name, PROGRAM.dataset_kinds, PROGRAM.promise) == ("gbm", ("table",), "exact")
