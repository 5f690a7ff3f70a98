"""Learning rates: pure functions of the step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.families.training import Training
from worker.training.numerics.optim import learning_rate


def rates(total: int, **training: object) -> list[float]:
    how = Training.model_validate({"learning_rate": 1.0, **training})
    return [learning_rate(how, step, total) for step in range(total)]


def test_constant_stays() -> None:
    assert rates(4) == [1.0] * 4


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warm_up_rises_linearly_to_the_peak(schedule: str) -> None:
    assert rates(10, lr_schedule=schedule, warmup_steps=4)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_cosine_falls_from_the_peak_towards_zero() -> None:
    found = rates(101, lr_schedule="cosine")
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5, abs=0.02)
    assert found[-1] < 0.001
    assert found == sorted(found, reverse=True)


def test_onecycle_rises_for_a_third_and_ends_at_next_to_nothing() -> None:
    found = rates(100, lr_schedule="onecycle")
    assert found[0] == pytest.approx(1 / 25)
    assert max(found) == found[30] == 1.0
    assert found[-1] == pytest.approx(1e-5)
    assert found[:31] == sorted(found[:31])
    assert found[30:] == sorted(found[30:], reverse=True)


def test_warm_up_steps_are_the_rise_of_onecycle() -> None:
    found = rates(100, lr_schedule="onecycle", warmup_steps=10)
    assert found.index(max(found)) == 10


@given(
    schedule=st.sampled_from(["constant", "cosine", "onecycle"]),
    total=st.integers(1, 10_000),
    step=st.integers(0, 20_000),
    warmup=st.integers(0, 20_000),
)
def test_every_rate_is_between_zero_and_the_peak(schedule: str, total: int, step: int, warmup: int) -> None:
    how = Training.model_validate({"learning_rate": 0.5, "lr_schedule": schedule, "warmup_steps": warmup})
    assert 0.0 <= learning_rate(how, step, total) <= 0.5
