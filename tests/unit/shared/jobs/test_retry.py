"""The decisions after an attempt that did not succeed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift.states import JobState
from shared.jobs.retry import AFTER_ERROR, Backoff, RetryCounters, after_failure
from shared.jobs.states import CRASH_OUTCOMES, AttemptOutcome, StopRequest

ENDINGS = [outcome for outcome in AttemptOutcome if outcome not in {AttemptOutcome.SUCCEEDED}]


def tally(**fields: object) -> RetryCounters:
    return RetryCounters(**{"retries": 0, "max_retries": 2, "lost_streak": 0, "stop_requested": None, **fields})  # type: ignore[arg-type]


def test_errors_are_charged_to_retries_and_nothing_else() -> None:
    decision = after_failure(AttemptOutcome.JOB_ERROR, True, tally(retries=1, lost_streak=2), poison_limit=3)
    assert (decision.state, decision.retries, decision.lost_streak) == (JobState.QUEUED, 2, 2)


def test_no_retries_left() -> None:
    decision = after_failure(AttemptOutcome.JOB_ERROR, True, tally(retries=2), poison_limit=3)
    assert (decision.state, decision.poisoned) == (JobState.FAILED, False)


def test_an_error_that_will_come_again_is_not_retried() -> None:
    assert after_failure(AttemptOutcome.JOB_ERROR, False, tally(), poison_limit=3).state is JobState.FAILED


def test_a_deadline_is_not_retried_even_if_the_error_says_so() -> None:
    assert after_failure(AttemptOutcome.TIMED_OUT, True, tally(), poison_limit=3).state is JobState.FAILED


@pytest.mark.parametrize("outcome", sorted(CRASH_OUTCOMES))
def test_deaths_are_charged_to_the_streak_and_nothing_else(outcome: AttemptOutcome) -> None:
    decision = after_failure(outcome, False, tally(retries=2, lost_streak=1), poison_limit=3)
    assert (decision.state, decision.retries, decision.lost_streak) == (JobState.QUEUED, 2, 2)
    last = after_failure(outcome, True, tally(lost_streak=2), poison_limit=3)
    assert (last.state, last.poisoned) == (JobState.FAILED, True)


def test_a_device_that_failed_is_charged_to_nothing_and_the_job_keeps_its_place() -> None:
    counters = tally(retries=2, lost_streak=2)
    decision = after_failure(AttemptOutcome.DEVICE_FAILED, True, counters, poison_limit=3)
    assert (decision.state, decision.retries, decision.lost_streak) == (JobState.QUEUED, 2, 2)
    assert (decision.delay, decision.poisoned) == (0.0, False)


def test_delays_grow_up_to_a_limit() -> None:
    middle = [AFTER_ERROR.delay(count, lambda: 0.5) for count in range(1, 12)]
    assert middle[:4] == [5, 10, 20, 40]
    assert middle[-1] == 600


@given(count=st.integers(1, 10_000), rand=st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_its_share(count: int, rand: float) -> None:
    backoff = Backoff(first=5, factor=2, most=600, jitter=0.2)
    assert 4 <= backoff.delay(count, lambda: rand) <= 720


@given(
    outcome=st.sampled_from(ENDINGS),
    retryable=st.booleans(),
    retries=st.integers(0, 5),
    max_retries=st.integers(0, 5),
    lost_streak=st.integers(0, 5),
    stop=st.sampled_from([None, *StopRequest]),
    poison_limit=st.integers(1, 5),
)
def test_every_case_is_decided_within_its_bounds(
    outcome: AttemptOutcome,
    retryable: bool,
    retries: int,
    max_retries: int,
    lost_streak: int,
    stop: StopRequest | None,
    poison_limit: int,
) -> None:
    before = RetryCounters(retries, max_retries, lost_streak, stop)
    decision = after_failure(outcome, retryable, before, poison_limit=poison_limit)
    assert decision.state in {JobState.QUEUED, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED}
    assert decision.delay >= 0
    assert (decision.retries - retries) + (decision.lost_streak - lost_streak) in (0, 1)
    if decision.state is JobState.QUEUED:
        assert decision.retries <= max(max_retries, retries)
        assert decision.lost_streak < max(poison_limit, lost_streak + 1)
    if stop is StopRequest.CANCEL:
        assert decision.state is JobState.CANCELLED
