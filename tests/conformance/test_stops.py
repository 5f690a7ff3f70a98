"""A run that is asked to stop, and one whose checkpoint is damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from nightshift.testing.attempts import Left, checkpoints, outcome, step_of
from nightshift.testing.cases import Case
from nightshift.testing.fixtures import Untouched
from nightshift.testing.test_resume import test_it_stops_within_a_step_and_goes_on_to_the_same_end as _paused
from shared.job_files.checkpoint_record import CheckpointRecord
from tests.support.training import CASES, attempt
from worker.training.checkpoints import restore

test_it_stops_within_a_step_and_goes_on_to_the_same_end = _paused


@pytest.fixture(scope="module")
def case() -> Case:
    """A run of ninety steps."""
    found = CASES["cnn-torch"]
    return replace(found, training={**found.training, "max_steps": 90})


def stopped(folder: Path) -> tuple[str, int]:
    """Why and at which step an attempt said that it stopped."""
    found = outcome(folder)
    assert found["type"] == "stopped"
    return found["reason"], found["step"]


def test_a_damaged_checkpoint_is_passed_over_and_named(untouched: Untouched, data_set: Path, tmp_path: Path) -> None:
    spec, folder = untouched.spec, tmp_path
    assert attempt(spec, folder, data_set, kill_after=80) == -9  # while a checkpoint was written, or soon after
    before, newest = sorted(checkpoints(folder), key=step_of)[-2:]
    with (newest / "state.safetensors").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    point = [
        CheckpointRecord(
            id=p.name, path=f"checkpoints/{p.name}", step=step_of(p), sha256=p.name.split("-")[1], size_bytes=0
        )
        for p in sorted(checkpoints(folder), key=step_of, reverse=True)
    ]
    restored, damaged = restore(folder, point)
    assert damaged == [newest.name]
    assert restored is not None
    assert restored.run.step == step_of(before)
    assert attempt(spec, folder, data_set) == 0
    assert Left.of(folder).difference(untouched.left, CASES["cnn-torch"].tolerance) is None


@pytest.mark.slow
def test_finish_keeps_the_best_model_as_the_result(data_set: Path, tmp_path: Path) -> None:
    case = CASES["cnn-torch"]
    spec = case.spec(batch_size=16)
    assert attempt(spec, tmp_path / "job", data_set, stop_after=(100, "finish")) == 0
    result = outcome(tmp_path / "job")
    assert result["type"] == "result"
    assert result["step"] == 99
    newest = max(checkpoints(tmp_path / "job"), key=step_of)
    best = {name: array for name, array in load_file(newest / "state.safetensors").items() if name.startswith("best/")}
    kept = load_file(tmp_path / "job" / "artifacts" / "model" / "model.safetensors")
    assert {f"best/{name}": array.tobytes() for name, array in kept.items()} == {
        name: array.tobytes() for name, array in best.items()
    }
    validated = json.loads((newest / "state.json").read_text())["run"]["best"]
    assert (validated["step"] < 99, result["metrics"]["val_loss"]) == (True, validated["value"])


def test_cancel_leaves_at_once_and_writes_nothing(data_set: Path, tmp_path: Path) -> None:
    case = CASES["cnn-torch"]
    assert attempt(case.spec(), tmp_path / "job", data_set, stop_after=(6, "cancel")) == 0
    assert stopped(tmp_path / "job") == ("cancel", 5)
    assert not checkpoints(tmp_path / "job")
    assert not (tmp_path / "job" / "artifacts").exists()
