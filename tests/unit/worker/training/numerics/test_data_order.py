"""The order of rows and the seeds of draws: pure functions, stable for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.training.numerics.data_order import DataOrder, epoch_order, generator, rng_seed, validation_split


def test_orders_are_what_they_were_when_checkpoints_were_written() -> None:
    """A change here breaks the resume of every run under way."""
    assert epoch_order(0, 0, 10).tolist() == [6, 9, 5, 3, 7, 0, 1, 4, 2, 8]
    assert rng_seed(0, "a", 1) == 6452566503321283255
    assert [part.tolist() for part in validation_split(0, 10, 0.2)] == [[0, 2, 3, 5, 6, 7, 8, 9], [1, 4]]


def test_epochs_seeds_and_purposes_differ() -> None:
    assert not np.array_equal(epoch_order(0, 0, 50), epoch_order(0, 1, 50))
    assert not np.array_equal(epoch_order(0, 0, 50), epoch_order(1, 0, 50))
    assert len({rng_seed(s, p, t) for s in range(3) for p in ("x", "y") for t in range(3)}) == 18
    assert generator(1, "x", 2).random() == generator(1, "x", 2).random()


@given(length=st.integers(1, 200), batch_size=st.integers(1, 64), seed=st.integers(0, 2**32 - 1))
def test_every_row_is_seen_once_an_epoch(length: int, batch_size: int, seed: int) -> None:
    sampler = DataOrder(seed, length, batch_size)
    steps = sampler.steps_per_epoch
    for epoch in range(2):
        batches = [sampler.batch(epoch * steps + index) for index in range(steps)]
        assert sorted(np.concatenate(batches).tolist()) == list(range(length))
        assert all(len(batch) == batch_size for batch in batches[:-1])


def test_a_step_has_the_same_rows_in_whatever_order_it_is_asked_for() -> None:
    rows = np.arange(100, 130)
    forwards = [DataOrder(3, 30, 7, rows).batch(step).tolist() for step in range(12)]
    backwards = DataOrder(3, 30, 7, rows)
    assert [backwards.batch(step).tolist() for step in reversed(range(12))] == forwards[::-1]
    assert min(map(min, forwards)) >= 100


@given(n=st.integers(2, 500), share=st.floats(0, 0.99), seed=st.integers(0, 1000))
def test_a_split_parts_all_rows_and_leaves_both_sides_some(n: int, share: float, seed: int) -> None:
    train, held_out = validation_split(seed, n, share)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(n))
    assert len(train) >= 1
    assert (len(held_out) >= 1) == (share > 0)
    assert len(held_out) == pytest.approx(n * share, abs=1)
