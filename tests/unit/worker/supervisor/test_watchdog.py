"""The watchdog kills a loop that is wedged, by the loop's own measure, and nothing that is only slow."""

from __future__ import annotations

import pytest

from worker.supervisor.watchdog import BLIND_SECONDS, ENOUGH, REMEMBERED, Limits, Watchdog

LIMITS = Limits(stall_seconds=1800.0, stall_factor=20.0, stall_floor_seconds=60.0)
#: Phases with no measure of their own.
PATIENT = ("load", "first_step", "validate", "checkpoint", "evaluate", "write", "finishing")


class Run:
    """A runner in a test's own time."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.now, self.step = 1000.0, 0
        self.dog = Watchdog(limits, self.now)

    def steps(self, count: int, seconds: float, phase: str = "train") -> Run:
        for _ in range(count):
            self.now += seconds
            self.step += 1
            self.dog.stepped(phase, self.step, self.now)
            self.dog.looked(self.now)
        return self

    def enter(self, phase: str) -> Run:
        self.dog.entered(phase, self.now)
        return self

    def waits(self, seconds: float) -> bool:
        """Whether it is stalled after so long, looked at all the time."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.dog.looked(self.now)
        return self.now >= self.dog.stalled_at()


@pytest.mark.parametrize(
    ("seconds_per_step", "limit"),
    [(0.001, 60.0), (2.9, 60.0), (10.0, 200.0), (300.0, 6000.0)],
)
def test_a_wedged_loop_is_given_a_multiple_of_its_own_slowest_step(seconds_per_step: float, limit: float) -> None:
    run = Run().enter("first_step").steps(10, seconds_per_step)
    assert run.dog.limit == pytest.approx(limit)
    assert not run.waits(limit - 2)
    assert run.waits(3)
    assert f"no step after step {run.step}" in run.dog.diagnosis(run.now)


def test_the_slowest_of_late_counts_and_is_forgotten() -> None:
    run = Run().steps(10, 0.1).steps(1, 50.0).steps(10, 0.1)
    assert run.dog.limit == pytest.approx(1000.0)
    run.steps(REMEMBERED, 0.1)
    assert run.dog.limit == 60.0


@pytest.mark.parametrize("phase", PATIENT)
def test_what_has_no_measure_may_take_as_long_as_stall_seconds(phase: str) -> None:
    run = Run().steps(50, 0.01).enter(phase)
    assert not run.waits(1799)
    assert run.waits(2)
    assert f"in phase {phase}" in run.dog.diagnosis(run.now)


def test_a_first_compile_is_no_stall_and_no_measure() -> None:
    run = Run().enter("first_step")
    assert not run.waits(1000)
    run.steps(1, 0.1).steps(ENOUGH, 0.1)
    assert run.dog.limit == 60.0


def test_too_few_steps_are_no_measure() -> None:
    run = Run().enter("first_step").steps(ENOUGH, 0.1)  # the first of them ends the first step
    assert run.dog.limit == 1800.0
    assert run.steps(1, 0.1).dog.limit == 60.0


def test_a_long_validation_does_not_count_as_a_step() -> None:
    run = Run().steps(50, 0.1).enter("validate")
    assert not run.waits(1000)
    run.enter("train").steps(1, 0.1)
    assert run.dog.limit == 60.0


def test_words_that_are_no_steps_keep_no_loop_alive_but_a_validation() -> None:
    run = Run().steps(50, 0.1)
    for _ in range(61):
        run.waits(1)
        run.dog.received(run.now)
        run.dog.stepped("train", run.step, run.now)  # the same step once more
    assert run.now >= run.dog.stalled_at()
    run = Run().steps(50, 0.1).enter("validate")
    for _ in range(4):
        assert not run.waits(1000)
        run.dog.received(run.now)


def test_chunks_of_inference_are_steps_too() -> None:
    run = Run().enter("first_step").steps(10, 0.5, "infer")
    assert run.dog.phase == "infer"
    assert run.waits(61)


def test_time_in_which_the_watchdog_did_not_look_does_not_count() -> None:
    """A worker that was frozen finds a runner that was frozen with it, or whose word it has not read yet."""
    run = Run().steps(50, 0.1)
    run.now += 500.0
    run.dog.looked(run.now)
    assert run.now < run.dog.stalled_at()
    assert run.waits(61)


def test_looking_seldom_but_often_enough_hides_no_stall() -> None:
    run = Run().steps(50, 0.1)
    for _ in range(int(61 // (BLIND_SECONDS - 1)) + 1):
        run.now += BLIND_SECONDS - 1
        run.dog.looked(run.now)
    assert run.now >= run.dog.stalled_at()


def test_a_runner_that_was_not_allowed_to_run_is_excused() -> None:
    run = Run().steps(50, 0.1)
    run.waits(59)
    run.dog.excuse(run.now)
    assert not run.waits(59)


def test_the_floor_is_never_above_stall_seconds() -> None:
    assert Run(Limits(5.0, 20.0, 60.0)).steps(50, 0.1).dog.limit == 5.0
