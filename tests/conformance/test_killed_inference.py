"""Batch inference that is killed writes the bytes of one that is not, for every family in torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nightshift.testing.cases import Case
from nightshift.testing.test_inference import (
    test_a_killed_inference_leaves_the_bytes_of_one_never_touched as _killed,
)
from tests.support.kinds import Trained
from tests.support.training import CASES

pytest.importorskip("torch")

test_a_killed_inference_leaves_the_bytes_of_one_never_touched = pytest.mark.slow(pytest.mark.timeout(600)(_killed))


@pytest.fixture(params=[name for name in CASES if name.endswith("torch")])
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def data_set(case: Case, parents: Callable[[str], Trained]) -> Path:
    return parents(str(case)).data_set


@pytest.fixture
def model(case: Case, parents: Callable[[str], Trained]) -> Path:
    return parents(str(case)).model
