"""What a job writes as the summary of its model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from nightshift.families import Framework, Layer, ModelSpec
from nightshift.families.learner import Array
from worker.training import model_summary

WEIGHTS: dict[str, Array] = {
    "features.weight": np.zeros((3, 4), np.float32),
    "features.running_mean": np.zeros(3, np.float32),
    "output.weight": np.zeros((2, 3), np.float32),
}


class PlainModel(ModelSpec):
    family: Literal["plain"] = "plain"
    framework: Framework = "torch"
    preset: str = "one"
    PRESETS = {"one": {}}


class LayeredModel(PlainModel):
    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer]:
        return [Layer("features", "dense", (3,), 12, 3), Layer("output", "dense", (facts["outputs"],), 6)]


class WrongModel(PlainModel):
    def layers(self, facts: Mapping[str, Any]) -> Sequence[Layer]:
        return [Layer("features", "dense", (3,), 12, 3), Layer("output", "dense", (2,), 8)]


class Log(list[tuple[str, str]]):
    def __call__(self, line: str, level: str = "info") -> None:
        self.append((line, level))


def written(tmp_path: Path, model: ModelSpec, log: Log, **facts: Any) -> tuple[str, dict[str, Any]]:
    (tmp_path / "model").mkdir()
    paths = model_summary.write(tmp_path, model, WEIGHTS, facts, log)
    assert paths == [tmp_path / "summary.txt", tmp_path / "model" / "summary.json"]
    return paths[0].read_text(), json.loads(paths[1].read_text())


def test_the_layers_are_written_with_the_facts_of_the_run(tmp_path: Path) -> None:
    log = Log()
    text, data = written(tmp_path, LayeredModel(), log, outputs=2)
    assert [one["name"] for one in data["layers"]] == ["features", "output"]
    assert (data["rows"], data["parameters"], data["fixed"]) == ("layers", 18, 3)
    assert "output    dense  2" in text
    assert log == []


def test_a_family_without_layers_gets_a_row_for_each_weight(tmp_path: Path) -> None:
    log = Log()
    text, data = written(tmp_path, PlainModel(), log)
    assert [one["name"] for one in data["layers"]] == list(WEIGHTS)
    assert (data["rows"], data["parameters"], data["fixed"]) == ("weights", 18, 3)
    assert text.startswith("plain one (torch)\n\nweight ")
    assert log == []


def test_frozen_weights_count_as_fixed(tmp_path: Path) -> None:
    _, data = written(tmp_path, LayeredModel(), Log(), outputs=2, frozen=("features",))
    assert (data["parameters"], data["fixed"]) == (6, 15)


@pytest.mark.parametrize(
    ("model", "facts", "why"),
    [
        (WrongModel(), {}, "the layer output declares 8 parameters and its weights hold 6"),
        (LayeredModel(), {}, "KeyError: 'outputs'"),
    ],
)
def test_layers_that_are_wrong_are_said_and_not_shown(
    model: ModelSpec, facts: dict[str, Any], why: str, tmp_path: Path
) -> None:
    log = Log()
    _, data = written(tmp_path, model, log, **facts)
    assert data["rows"] == "weights"
    assert log == [(f"the summary lists weights, because layers() of the family plain is wrong: {why}", "warning")]
