"""Whether a checkpoint is to blame for attempts that ended before they had loaded it."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from sqlalchemy import Engine

from nightshift.states import JobState
from shared.db.engine import read, write
from shared.jobs import queries, transitions
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import Ending, Lease
from tests.support.factories import claim_job, commit_checkpoint, make_due, running_job

CRASHED, STALLED, JOB_ERROR = AttemptOutcome.CRASHED, AttemptOutcome.STALLED, AttemptOutcome.JOB_ERROR
KILLED, SEGFAULT, ABORT = Ending(signal=signal.SIGKILL), Ending(signal=signal.SIGSEGV), Ending(signal=signal.SIGABRT)


@pytest.fixture
def lease(sqlite_engine: Engine) -> Lease:
    """Of an attempt that begins where the one before it left two checkpoints, of steps 5 and 10."""
    first = running_job(sqlite_engine)
    for step in (5, 10):
        commit_checkpoint(sqlite_engine, first, step=step)
    end(sqlite_engine, first, CRASHED, KILLED)
    return next_attempt(sqlite_engine, first)


def end(
    engine: Engine, lease: Lease, outcome: AttemptOutcome, ending: Ending, kind: str | None = None
) -> tuple[JobState, list[int]]:
    """The job's state and the steps of the checkpoints that are gone on from, newest first."""
    error = {"type": kind or outcome.value, "message": "it died", "retryable": True}
    with write(engine) as conn:
        state = transitions.fail(conn, lease, outcome=outcome, error=error, ending=ending)
        rows: list[dict[str, Any]] = queries.checkpoints(conn, lease.job_id)
    return state, sorted((row["step"] for row in rows if row["state"] == "ready"), reverse=True)


def next_attempt(engine: Engine, lease: Lease) -> Lease:
    make_due(engine, lease.job_id)
    return claim_job(engine).lease


@pytest.mark.parametrize(
    ("outcome", "ending", "kind"),
    [
        (CRASHED, SEGFAULT, None),
        (CRASHED, ABORT, None),
        (CRASHED, Ending(exit_code=1), None),
        (CRASHED, KILLED, "protocol_error"),  # by its supervisor, for what it said
        (AttemptOutcome.OUT_OF_MEMORY, KILLED, None),  # by the kernel
        (STALLED, KILLED, None),
        (JOB_ERROR, Ending(exit_code=0), "unexpected_error"),
    ],
)
def test_two_that_loading_may_have_ended_set_it_aside(
    sqlite_engine: Engine, lease: Lease, outcome: AttemptOutcome, ending: Ending, kind: str | None
) -> None:
    assert end(sqlite_engine, lease, outcome, ending, kind) == (JobState.QUEUED, [10, 5])
    again = next_attempt(sqlite_engine, lease)
    assert end(sqlite_engine, again, outcome, ending, kind) == (JobState.QUEUED, [5])
    with read(sqlite_engine) as conn:
        assert queries.get_job(conn, lease.job_id, None)["lost_streak"] <= 1, "it begins anew"


@pytest.mark.parametrize("ending", [KILLED, Ending()], ids=["killed", "killed with its forkserver"])
def test_kills_from_outside_do_not_and_the_budget_of_crashes_ends_them(
    sqlite_engine: Engine, lease: Lease, ending: Ending
) -> None:
    assert end(sqlite_engine, lease, CRASHED, ending) == (JobState.QUEUED, [10, 5])
    again = next_attempt(sqlite_engine, lease)
    assert end(sqlite_engine, again, CRASHED, ending) == (JobState.FAILED, [10, 5])


@pytest.mark.parametrize("endings", [(KILLED, SEGFAULT), (SEGFAULT, KILLED)], ids=["first", "second"])
def test_one_kill_from_outside_among_two_proves_nothing(
    sqlite_engine: Engine, lease: Lease, endings: tuple[Ending, Ending]
) -> None:
    end(sqlite_engine, lease, CRASHED, endings[0])
    again = next_attempt(sqlite_engine, lease)
    assert end(sqlite_engine, again, CRASHED, endings[1])[1] == [10, 5]


@pytest.mark.parametrize("reason", ["device_failed", "disk_full"])
def test_a_device_that_failed_or_a_full_disk_says_nothing_about_a_checkpoint(
    sqlite_engine: Engine, lease: Lease, reason: str
) -> None:
    """It counts as a crash of the job, and not against what it loaded: the reason may be its host's."""
    clean = Ending(exit_code=0)
    assert end(sqlite_engine, lease, CRASHED, clean, reason) == (JobState.QUEUED, [10, 5])
    again = next_attempt(sqlite_engine, lease)
    assert end(sqlite_engine, again, CRASHED, clean, reason) == (JobState.FAILED, [10, 5])


def test_a_device_that_was_left_costs_the_job_nothing(sqlite_engine: Engine, lease: Lease) -> None:
    for _ in range(3):
        failed = AttemptOutcome.DEVICE_FAILED
        assert end(sqlite_engine, lease, failed, Ending(exit_code=0)) == (JobState.QUEUED, [10, 5])
        lease = next_attempt(sqlite_engine, lease)
    with read(sqlite_engine) as conn:
        job = queries.get_job(conn, lease.job_id, None)
    assert (job["retries"], job["lost_streak"]) == (0, 1), "that of the attempt before"
