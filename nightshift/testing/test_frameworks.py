"""A family in two frameworks is one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nightshift.testing.cases import Case
from nightshift.testing.fixtures import held_out
from nightshift.testing.reasons import fail
from nightshift.testing.test_learner import losses

#: Relative difference of a loss: rounding of sums in another order.
TOLERANCE = 1e-3


def test_both_frameworks_agree(both: list[Case], data_sets: Callable[[Case], Path]) -> None:
    """The same weights have the same names and shapes and give the same losses in both frameworks."""
    if len(both) < 2:
        pytest.skip("the family has one framework")
    learners = []
    for case in both:
        splits = case.load_splits(data_sets(case), precision="float32")
        learners.append(case.build(splits, precision="float32"))
    one, other = learners
    shapes = [{name: array.shape for name, array in learner.weights().items()} for learner in learners]
    if shapes[0] != shapes[1]:
        fail(f"weights() has other names or shapes in {both[1].framework} than in {both[0].framework}")
    other.load_weights(one.weights())
    rows = held_out(splits)
    found = [learner.evaluate(rows, 30) for learner in learners]
    for name in losses(found[0]):
        if not np.isclose(found[0][name], found[1][name], rtol=TOLERANCE):
            fail(
                f"{name} of the same weights and rows is {found[0][name]:.6g} in {both[0].framework} and "
                f"{found[1][name]:.6g} in {both[1].framework}"
            )
