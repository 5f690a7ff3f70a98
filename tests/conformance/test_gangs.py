"""Gangs of two CPU slots: exact after the death of any rank, as the same number of devices; gone at their end.

In TensorFlow one process has all ranks, and dies as a whole.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from nightshift.testing import attempts
from nightshift.testing.attempts import Left, checkpoints, outcome
from nightshift.testing.cases import Case
from shared.specs.jobs import job_spec_adapter
from tests.support.gang_runs import gang_attempt, own_learner
from tests.support.stack import eventually
from tests.support.training import CASES

FAMILIES = ["cnn", "gru_lm", "gan", "mlp", "text_classifier", "tagger"]


FRAMEWORKS = ["torch", "tensorflow"]


def cases(families: list[str], frameworks: list[str] = FRAMEWORKS) -> Any:
    """Run a test with these families in these frameworks."""
    names = [f"{family}-{framework}" for family in families for framework in frameworks]
    return pytest.mark.parametrize("case", [CASES[name] for name in names], ids=names)


def spec_of(case: Case) -> dict[str, Any]:
    spec = case.spec(max_steps=40)
    spec["checkpoint"]["every_steps"] = 7
    return spec


def ranks_in(folder: Path) -> list[int]:
    """Return the processes that work in a folder."""
    return [process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]


@cases(FAMILIES)
def test_a_gang_that_lost_ranks_ends_as_one_never_touched(case: Case, data_set: Path, tmp_path: Path) -> None:
    last = 0 if case.framework == "tensorflow" else 1
    spec, whole, killed = spec_of(case), tmp_path / "whole", tmp_path / "killed"
    assert gang_attempt(case.server, spec, whole, data_set, 2) == 0
    assert gang_attempt(case.server, spec, killed, data_set, 2, deaths=((last, 17),)) == -9
    assert ranks_in(killed) == []
    assert gang_attempt(case.server, spec, killed, data_set, 2, deaths=((0, 31),)) == -9
    assert ranks_in(killed) == []
    assert gang_attempt(case.server, spec, killed, data_set, 2) == 0
    assert Left.of(killed) == Left.of(whole)


@cases(["cnn"])
def test_another_number_of_devices_goes_on_and_says_that_it_is_not_exact(
    case: Case, data_set: Path, tmp_path: Path
) -> None:
    spec = spec_of(case)
    assert gang_attempt(case.server, spec, tmp_path, data_set, 2, stop_after=(20, "pause")) == 0
    assert gang_attempt(case.server, spec, tmp_path, data_set, 1) == 0
    assert outcome(tmp_path)["step"] == 40
    assert "continues on 1 device what 2 devices began: not exact" in (tmp_path / "log.txt").read_text()


@cases(["cnn"])
def test_a_rank_without_rows_counts_nothing(case: Case, data_set: Path, tmp_path: Path) -> None:
    rows = case.load_splits(data_set).length - 1
    batch_size = next(size for size in range(20, rows + 1) if rows % size == 0)  # the last batch has one row
    spec = case.spec(batch_size=batch_size, epochs=1)
    assert gang_attempt(case.server, spec, tmp_path, data_set, 2) == 0
    assert outcome(tmp_path)["step"] == rows // batch_size + 1


@cases(["gan"])
def test_a_gang_leaves_the_feature_extractor_that_one_device_does(case: Case, data_set: Path, tmp_path: Path) -> None:
    left = []
    for devices in (1, 2):
        copy = shutil.copytree(data_set, tmp_path / f"data{devices}", ignore=shutil.ignore_patterns("judge*"))
        folder = tmp_path / f"job{devices}"
        assert gang_attempt(case.server, case.spec(max_steps=2), folder, copy, devices) == 0
        [judge] = copy.glob("judge*")
        left.append({file.name: file.read_bytes() for file in judge.iterdir()})
    assert left[0] == left[1]


@cases(["cnn"])
def test_a_gang_learns_what_one_device_does(case: Case, data_set: Path, tmp_path: Path) -> None:
    spec = case.spec(max_steps=12, batch_size=3, optimizer="sgd", learning_rate=0.1, augment=[], precision="float32")
    spec["model"] |= {"dropout": 0.0, "normalization": "none"}
    weights = []
    for devices in (1, 2):
        folder = tmp_path / f"{devices}"
        assert gang_attempt(case.server, spec, folder, data_set, devices) == 0
        weights.append(load_file(folder / "artifacts" / "model" / "model.safetensors"))
    for name, alone in weights[0].items():
        np.testing.assert_allclose(weights[1][name], alone, atol=1e-4, err_msg=name)
        assert np.abs(alone).max() > 1e-2, "a bias that is 0 would agree with any"


@cases(["cnn"], ["tensorflow"])
def test_a_learner_of_an_own_family_goes_on_exactly(case: Case, tmp_path: Path) -> None:
    assert attempts.run(case.server, own_learner, tmp_path) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["devices"], found["differ"]) == (2, [])
    assert found["untrained"] == ["bad"]


@cases(["cnn"], ["tensorflow"])
def test_a_program_in_tensorflow_has_all_devices_in_one_process(case: Case, data_set: Path, tmp_path: Path) -> None:
    body = {"kind": "run", "program": "ranks", "framework": "tensorflow", "resources": {"devices": 2}}
    spec = job_spec_adapter.validate_python(body).model_dump(mode="json")
    program = "tests.support.gang_runs:mirrored_program"
    assert gang_attempt(case.server, spec, tmp_path, data_set, 2, program=program) == 0
    assert outcome(tmp_path)["metrics"] == {"total": 3.0}
    assert len(checkpoints(tmp_path)) == 1


@cases(["cnn"], ["torch"])
def test_a_program_gets_its_ranks_and_the_first_alone_keeps_files(case: Case, data_set: Path, tmp_path: Path) -> None:
    body = {"kind": "run", "program": "ranks", "framework": "torch", "resources": {"devices": 2}}
    spec = job_spec_adapter.validate_python(body).model_dump(mode="json")
    program = "tests.support.gang_runs:rank_program"
    assert gang_attempt(case.server, spec, tmp_path, data_set, 2, program=program) == 0
    told = json.loads((tmp_path / "artifacts" / "told.json").read_text())
    assert told == {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    assert outcome(tmp_path)["metrics"] == {"total": 3.0}
    assert len(checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("program", ["failing_program", "failing_followers"])
@cases(["cnn"], ["torch"])
def test_an_error_of_any_rank_ends_all_and_is_told(case: Case, program: str, data_set: Path, tmp_path: Path) -> None:
    body = {"kind": "run", "program": "ranks", "framework": "torch", "resources": {"devices": 3}}
    spec = job_spec_adapter.validate_python(body).model_dump(mode="json")
    assert gang_attempt(case.server, spec, tmp_path, data_set, 3, program=f"tests.support.gang_runs:{program}") == 0
    assert "has no data" in json.loads((tmp_path / "failed.json").read_text())["message"]
    assert ranks_in(tmp_path) == []


@cases(["cnn"], ["torch"])
def test_no_rank_outlives_its_agent(case: Case, data_set: Path, tmp_path: Path) -> None:
    body = {"kind": "run", "program": "ranks", "framework": "torch", "resources": {"devices": 2}}
    spec = job_spec_adapter.validate_python(body).model_dump(mode="json")
    program = "tests.support.gang_runs:agent_killed"
    assert gang_attempt(case.server, spec, tmp_path, data_set, 2, program=program) == -9
    eventually("no rank is left", lambda: ranks_in(tmp_path) == [])
