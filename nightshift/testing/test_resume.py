"""A run that was killed anywhere and goes on ends like one that was never touched."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from nightshift.testing.attempts import Left, checkpoints, outcome, step_of
from nightshift.testing.cases import Case
from nightshift.testing.conduct import Behavior
from nightshift.testing.fixtures import CHECKPOINT_STEPS, Untouched
from nightshift.testing.reasons import fail, require_exactness
from nightshift.testing.short_runs import IMPROVING, STALE, Run, remembers, short, unnoticed

pytestmark = [pytest.mark.timeout(1800)]

#: The writing of the second checkpoint begins when that of the first has ended, so after it one is there for certain.
AFTER_A_CHECKPOINT = 2 * CHECKPOINT_STEPS + 3
#: Fewest steps of a trial.
FEWEST_STEPS = 40


def test_a_run_that_was_killed_ends_as_one_never_touched(
    case: Case,
    data_set: Path,
    untouched: Untouched,
    kills: int,
    seed: int,
    also_checked: Callable[[Case, Left, Path], None],
    tmp_path: Path,
) -> None:
    """Killed at random steps and resumed in new processes, a run leaves the weights and rows of an untouched one."""
    if untouched.steps < FEWEST_STEPS:
        fail(f"its trial has {untouched.steps} steps; it needs {FEWEST_STEPS} to be killed between checkpoints")
    at = sorted(random.Random(seed).sample(range(AFTER_A_CHECKPOINT, untouched.steps), kills))
    print(f"killed after {at} steps of {untouched.steps}")
    done = 0
    for step in at:
        # Steps are counted within the attempt; it goes on from the last checkpoint, at most two intervals back.
        code = case.attempt(untouched.spec, tmp_path, data_set, kill_after=max(1, step - done))
        if code != -9:
            fail(f"a run that resumes from the checkpoint of step {done} fails (exit code {code})")
        done = max((step_of(path) for path in checkpoints(tmp_path)), default=0)
        if done == 0:
            fail(f"it leaves no checkpoint within {step} steps")
    # The number of threads is that of the checkpoint.
    if case.attempt(untouched.spec, tmp_path, data_set, threads=2) != 0:
        fail(f"a run that resumes from the checkpoint of step {done} fails")
    if different := Left.of(tmp_path).difference(untouched.left, case.tolerance):
        fail(
            f"{different} of a run that was killed after {at} steps is not that of an untouched run: something that "
            "decides a step is kept outside of state(), or does not follow from the seed and the step"
        )
    also_checked(case, Left.of(tmp_path), data_set)


@pytest.mark.usefixtures("few_rows")
def test_no_item_of_the_saved_state_may_be_dropped(
    case: Case, data_set: Path, chosen_items: Callable[[list[str]], list[str]], tmp_path: Path
) -> None:
    """Without any one of the saved arrays and facts, a run goes on differently or refuses to."""
    require_exactness()
    improving = Run(case, data_set, tmp_path / "improving", short(case, IMPROVING))
    items = chosen_items(improving.items())
    resumed, _ = improving.go(improving.restored(), learner=improving.build())
    if resumed != improving.untouched:
        fail("a new learner that loads the state of step 44 goes on differently: state() does not have all of it")
    missed = unnoticed(improving, items)
    _check_nothing_remembered(improving)
    if missed:
        improving.learner.load_state(improving.new)
        stale = Run(case, data_set, tmp_path / "stale", short(case, STALE), improving.learner)
        missed = unnoticed(stale, missed)
        _check_nothing_remembered(stale)
    if missed:
        names = ", ".join(item.partition(":")[2] for item in missed[:5])
        fail(f"a run goes on the same without {names} of its state(): load_state() must use or refuse each item")


def _check_nothing_remembered(run: Run) -> None:
    if remembers(run):
        fail("a learner that has run before goes on differently after load_state(): it keeps state outside of state()")


def test_it_stops_within_a_step_and_goes_on_to_the_same_end(
    case: Case, data_set: Path, untouched: Untouched, tmp_path: Path
) -> None:
    """Asked to pause, a run stops before the next step; resumed, it ends as an untouched run."""
    step = min(38, untouched.steps - 2)
    if case.attempt(untouched.spec, tmp_path, data_set, stop_after=(step, "pause")) != 0:
        fail("a run that is asked to pause fails")
    found = outcome(tmp_path)
    if (found["type"], found["step"]) != ("stopped", step - 1):
        fail(f"asked to pause before step {step}, it ends as {found['type']!r} at step {found['step']}")
    if case.attempt(untouched.spec, tmp_path, data_set) != 0:
        fail("a run that was paused cannot be resumed")
    if different := Left.of(tmp_path).difference(untouched.left, case.tolerance):
        fail(f"{different} of a run that was paused is not that of an untouched run")


def test_it_leaves_no_thread(untouched: Untouched) -> None:
    """No thread that training starts is left at its end, and their number does not grow."""
    if leak := Behavior.of(untouched.folder).thread_leak():
        fail(leak)


def test_it_leaves_no_process(untouched: Untouched) -> None:
    """No child process is left at the end of training."""
    if leak := Behavior.of(untouched.folder).process_leak():
        fail(leak)


def test_it_prints_little(untouched: Untouched) -> None:
    """It prints a few lines, not megabytes."""
    if noise := Behavior.of(untouched.folder).noise():
        fail(noise)
