"""A gang of a GAN without a validation part: the first rank alone trains what scores the samples, at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightshift.testing.attempts import outcome
from tests.support.gang_runs import gang_attempt
from tests.support.training import CASES

pytest.importorskip("torch")


def test_a_gang_without_a_validation_part_is_scored_at_its_end(tmp_path: Path) -> None:
    case = CASES["gan-torch"]
    data_set = case.store(tmp_path / "data")  # of its own: nothing scores its samples yet
    spec = case.spec(max_steps=12, validation_split=0.0, early_stopping=None)
    assert gang_attempt(case.server, spec, tmp_path / "job", data_set, 2) == 0
    assert outcome(tmp_path / "job")["metrics"]["frechet_distance"] > 0
