"""Runs are equal to the last bit on a CPU, and within a tolerance on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nightshift.testing import devices
from nightshift.testing.closeness import equal

ONE = {"loss": 0.5, "weights": np.array([1.0, -2.0, np.nan], np.float32)}
NEAR = {"loss": 0.5001, "weights": np.array([1.001, -2.0, np.nan], np.float32)}
FAR = {"loss": 0.5, "weights": np.array([1.1, -2.0, np.nan], np.float32)}
OTHER_NAMES = {"loss": 0.5, "biases": ONE["weights"]}


@pytest.mark.parametrize(
    ("device", "other", "wanted"),
    [
        ("cpu", ONE, True),
        ("cpu", NEAR, False),
        ("gpu", NEAR, True),
        ("gpu", FAR, False),
        ("gpu", OTHER_NAMES, False),
    ],
)
def test_equal_is_as_the_device_allows(
    device: str, other: dict[str, Any], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "kind", lambda: device)
    assert equal((ONE, [1, "a"]), (other, [1, "a"])) is wanted


def test_a_tolerance_of_its_own_is_relative_to_the_largest_value() -> None:
    one, other = np.array([100.0, 0.0]), np.array([100.0, 0.5])
    assert equal(one, other, 0.01)
    assert not equal(one, other, 0.001)
    assert not equal(one, np.array([100.0]), 0.01)
    assert not equal(0.5, None, 0.01)
