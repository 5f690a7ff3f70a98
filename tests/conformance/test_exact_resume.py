"""A run that was killed anywhere and went on ends like one that was never touched, for every family and framework.

The checks are those of the kit. Here are its cases, what of them is chosen to save time, and figures made by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightshift.metrics import OF_STEPS
from nightshift.testing.attempts import Left
from nightshift.testing.cases import Case
from nightshift.testing.fixtures import Untouched
from nightshift.testing.test_resume import test_a_run_that_was_killed_ends_as_one_never_touched as _killed
from nightshift.testing.test_resume import test_it_leaves_no_process as test_it_leaves_no_process
from nightshift.testing.test_resume import test_it_leaves_no_thread as test_it_leaves_no_thread
from nightshift.testing.test_resume import test_it_prints_little as test_it_prints_little
from nightshift.testing.test_resume import test_no_item_of_the_saved_state_may_be_dropped as _dropped
from tests.support.training import CASES
from worker.training.numerics.data_order import DataOrder

#: So that two epochs are 45 steps and more.
BATCH = 32
#: An attempt in TensorFlow takes seconds to begin; what is killed, and how, is the same.
KILLS = {"torch": 3, "tensorflow": 1}
#: Metrics of the steps of each family.
TRAINED_ON = {
    "cnn": ("loss", "accuracy"), "gru_lm": ("loss", "accuracy", "perplexity"), "gan": ("g_loss", "d_loss"),
    "text_classifier": ("loss", "accuracy"),
}  # fmt: skip
#: The loop's own state.
RUN_ITEMS = [
    f"run:{name}"
    for name in (
        "step", "row_step", "epoch_sums", "epoch_steps", "history", "best.value", "best.step", "best.stale",
        "best.trained", "best.weights",
    )
]  # fmt: skip

test_a_run_that_was_killed_ends_as_one_never_touched = pytest.mark.slow(pytest.mark.timeout(900)(_killed))
test_no_item_of_the_saved_state_may_be_dropped = pytest.mark.slow(_dropped)


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    pytest.importorskip(found.framework)
    return replace(found, training={**found.training, "batch_size": BATCH})


@pytest.fixture
def kills(case: Case) -> int:
    return KILLS[case.framework]


@pytest.fixture
def chosen_items(case: Case) -> Callable[[list[str]], list[str]]:
    """In TensorFlow one item of each kind; the loop's own state is the same in both frameworks."""
    return (lambda items: items + RUN_ITEMS) if case.framework == "torch" else one_of_each


def one_of_each(items: list[str]) -> list[str]:
    """By kind: the part of the name before the weight's, and the slot after it."""
    kinds = {(item.split("/")[0], item.split("/")[-1] if item.count("/") > 1 else ""): item for item in items}
    return list(kinds.values())


@pytest.fixture
def also_checked() -> Callable[[Case, Left, Path], None]:
    return _check_figures


#: Only the first validation improves anything, so the rate falls after the second and the third.
FALLING: dict[str, Any] = {
    "lr_schedule": "plateau", "lr_patience": 1, "lr_factor": 0.5, "warmup_steps": 10, "epochs": 4, "batch_size": 48,
    "early_stopping": {"metric": "val_loss", "patience": 50, "min_delta": 1e6},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["cnn-torch", "gru_lm-tensorflow", "gan-torch"])
def test_a_rate_that_fell_is_as_low_after_kills(
    name: str,
    data_sets: Callable[[Case], Path],
    untouched_runs: Callable[[Case], Untouched],
    seed: int,
    tmp_path: Path,
) -> None:
    pytest.importorskip(CASES[name].framework)
    falling = {**FALLING, "early_stopping": {**FALLING["early_stopping"], "metric": CASES[name].watched}}
    case = replace(CASES[name], training={**CASES[name].training, **falling})
    _killed(case, data_sets(case), untouched_runs(case), 3, seed, _check_rates, tmp_path)


def _check_rates(case: Case, left: Left, data_set: Path) -> None:
    peak = case.job().training.learning_rate
    rates = {step: value for (name, step), value in left.rows.items() if name == "learning_rate"}
    assert rates[min(rates)] < peak, "it warms up"
    assert [rate for rate in (1, 0.5, 0.25) if peak * rate in rates.values()] == [1, 0.5, 0.25]
    assert rates[max(rates)] <= peak / 4


def _check_figures(case: Case, left: Left, data_set: Path) -> None:
    assert not OF_STEPS & left.figures.keys()
    shown = {name: value for name, value in left.figures.items() if name.startswith(("train_", "val_"))}
    assert shown == pytest.approx(by_hand(case, left, data_set))


def by_hand(case: Case, left: Left, data_set: Path) -> dict[str, float]:
    """The figures of the epoch whose model was kept, out of the metric rows: what was validated at its end, and the
    means over the rows of data that it trained on."""
    training = case.job().training
    splits = case.load_splits(data_set)
    sampler = DataOrder(training.seed, splits.length, BATCH, splits.rows)
    watched = case.training["early_stopping"]["metric"]
    _, best = min((value, step) for (name, step), value in left.rows.items() if name == watched)
    before = best - sampler.steps_per_epoch
    found = {name: value for (name, step), value in left.rows.items() if step == best and name.startswith("val_")}
    for trained in TRAINED_ON[case.family]:
        steps = sorted(step for name, step in left.rows if name == trained and before < step <= best)
        seen = [sum(len(sampler.batch(step)) for step in range(*part)) for part in pairwise([before, *steps])]
        means = [left.rows[trained, step] for step in steps]
        found[f"train_{trained}"] = float(np.average(means, weights=seen))
    if "train_perplexity" in found:
        found["train_perplexity"] = math.exp(found["train_loss"])
    return found
