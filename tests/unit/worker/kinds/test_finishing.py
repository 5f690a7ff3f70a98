"""What is left of a job for a process without the device: read as it was written, or not handed over at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.families.learner import Evaluation
from nightshift.testing.attempts import NullReporter
from shared.job_files import checkpoint_files
from shared.jobs.states import FINISHING
from worker.kinds import finishing
from worker.kinds.finishing import Unfinished
from worker.runners.messages import Assignment, Comparison, Result, Stopped
from worker.training import artifacts


@pytest.fixture
def assignment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assignment:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    return Assignment(job_id="a" * 16, fence=1, spec={}, job_dir=str(tmp_path), work_dir=str(tmp_path), part="device")


def unfinished(**report: Any) -> Unfinished:
    comparison = Comparison(version=2, candidate=0.5, champion=0.25, better=True, reason="better")
    result = Result(metrics={"loss": 0.1}, model={"family": "cnn", "path": "model"}, step=7, comparison=comparison)
    history = {"loss": [[1, 2.5], [2, 0.1]]}
    found = Evaluation(**{"metrics": {"loss": 0.1}, "document": {"classes": ["é", "b"]}, **report})
    return Unfinished(result, "cnn", found, ["model/config.json"], history, 2, 3)


def test_what_is_handed_over_comes_back_as_it_was(assignment: Assignment, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "pictures": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
        "file": np.array([0.1, np.nan], np.float32),
        "names": np.array(["é", "b"]),
        "none": np.empty((0, 3), np.int64),
    }
    left = unfinished(arrays=arrays)
    assert finishing.hand_over(assignment, left)
    found = finishing.take_over(assignment)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "", "this process must open no context on the GPU"
    assert (found.result, found.report.metrics, found.report.document) == (
        left.result,
        left.report.metrics,
        left.report.document,
    )
    assert (found.written, found.history, found.best_step, found.finished_epochs) == (
        left.written,
        left.history,
        left.best_step,
        left.finished_epochs,
    )
    assert list(found.report.arrays) == list(arrays)
    for name, array in arrays.items():
        assert found.report.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.report.arrays[name], array)
    assert list(tmp_path.iterdir()) == [], "the files are removed"


@dataclass(frozen=True)
class OwnEvaluation(Evaluation):
    """An evaluation with something of its own."""


@pytest.mark.parametrize(
    "report",
    [
        {"document": {"rows": (1, 2)}},
        {"document": {3: "a number as a key"}},
        {"document": {"loss": float("nan")}},
        {"document": {"loss": np.float32(1)}},
        {"arrays": {"objects": np.array([object()])}},
        {"arrays": {"list": [1, 2]}},
        {"arrays": {"masked": np.ma.masked_array([1, 2], [True, False])}},
    ],
    ids=["tuple", "key", "nan", "scalar", "objects", "list", "masked"],
)
def test_what_would_come_back_as_something_else_stays(assignment: Assignment, report: dict[str, Any]) -> None:
    assert not finishing.hand_over(assignment, unfinished(**report))


def test_an_own_class_stays(assignment: Assignment) -> None:
    left = unfinished()
    own = Unfinished(left.result, "cnn", OwnEvaluation({}), [])
    assert not finishing.hand_over(assignment, own)


def test_a_full_disk_leaves_the_job_to_its_own_process(assignment: Assignment, tmp_path: Path) -> None:
    gone = assignment.model_copy(update={"work_dir": str(tmp_path / "gone")})
    assert not finishing.hand_over(gone, unfinished())


def test_the_facts_are_plain_json(assignment: Assignment, tmp_path: Path) -> None:
    assert finishing.hand_over(assignment, unfinished())
    assert json.loads((tmp_path / finishing.FACTS).read_text())["family"] == "cnn"


# -- predictions ----------------------------------------------------------------------------------


def inferred(assignment: Assignment, lines: Sequence[bytes] = (b"1\n", b"2\n")) -> tuple[Assignment, Unfinished]:
    """Return the end of a batch inference whose parts have these lines, and rows without a prediction in the second."""
    folder, parts = Path(assignment.job_dir), {}
    for number, rows in enumerate(lines, 1):
        files = {"rows": [rows], "errors.jsonl": [b"{}\n" if number == 2 else b""]}
        saved = checkpoint_files.write(folder, step=number, fence=1, files=files)
        parts[str(folder / saved.path)] = saved.sha256
    asked = assignment.model_copy(update={"spec": {"inference": {"output": "jsonl"}}})
    return asked, Unfinished(Result(metrics={"rows": 2.0}, step=2), "cnn", None, [], parts=parts)


def test_the_parts_are_joined_in_their_order_from_what_was_handed_over(assignment: Assignment) -> None:
    assignment, left = inferred(assignment)
    assert finishing.hand_over(assignment, left)
    reporter = NullReporter()
    assert finishing.finish(assignment, reporter, finishing.take_over(assignment)) == left.result
    assert [frame.path for frame in reporter.frames] == ["predictions.jsonl", "errors.jsonl"]
    root = artifacts.folder(assignment)
    assert [(root / name).read_bytes() for name in ("predictions.jsonl", "errors.jsonl")] == [b"1\n2\n", b"{}\n"]


def test_a_damaged_part_ends_the_attempt_without_a_file(assignment: Assignment) -> None:
    assignment, left = inferred(assignment)
    (Path(list(left.parts)[1]) / "rows").write_bytes(b"3\n")
    reporter = NullReporter()
    assert finishing.finish(assignment, reporter, left) == Stopped(reason="drain", step=2)
    [(level, message)] = reporter.frames
    assert (level, message.endswith("is damaged: its rows are computed again")) == ("warning", True)
    assert list(artifacts.folder(assignment).iterdir()) == []


def test_what_takes_less_time_than_another_process_stays(assignment: Assignment) -> None:
    assignment, left = inferred(assignment)
    assert not finishing.hand_over(assignment, replace(left, is_small=True))


def test_a_job_that_is_finished_on_its_device_does_not_say_that_the_device_is_free(assignment: Assignment) -> None:
    assignment, left = inferred(assignment)
    reporter = NullReporter()
    finishing.finish(assignment, reporter, left)
    assert FINISHING not in reporter.phases
