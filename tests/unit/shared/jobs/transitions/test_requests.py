"""What users may ask of a job in each state."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from nightshift.errors import Conflict, NotFound
from nightshift.states import JobState
from shared.db.engine import read, write
from shared.jobs import queries, transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from tests.support.factories import (
    OWNER,
    claim_job,
    commit_checkpoint,
    expire_lease,
    job_in_state,
    running_job,
    submit_job,
)

CANCEL, FINISH, PAUSE = StopRequest.CANCEL, StopRequest.FINISH, StopRequest.PAUSE


def ask(engine: Engine, job_id: str, request: StopRequest, owner_id: str | None = OWNER) -> JobState:
    with write(engine) as conn:
        state = transitions.request_stop(conn, job_id, request, owner_id)
    with read(engine) as conn:
        assert queries.get_job(conn, job_id, None)["state"] == state
    return state


@pytest.mark.parametrize(
    ("state", "request_", "becomes"),
    [
        (JobState.WAITING, CANCEL, JobState.CANCELLED),
        (JobState.WAITING, FINISH, JobState.CANCELLED),
        (JobState.WAITING, PAUSE, None),
        (JobState.QUEUED, CANCEL, JobState.CANCELLED),
        (JobState.QUEUED, FINISH, JobState.CANCELLED),
        (JobState.QUEUED, PAUSE, JobState.PAUSED),
        (JobState.PAUSED, CANCEL, JobState.CANCELLED),
        (JobState.PAUSED, FINISH, JobState.CANCELLED),
        (JobState.PAUSED, PAUSE, JobState.PAUSED),
        *((state, request, None) for state in JobState if state.is_final for request in (CANCEL, FINISH, PAUSE)),
    ],
)
def test_a_job_that_does_not_run_stops_at_once_or_says_no(
    engine: Engine, state: JobState, request_: StopRequest, becomes: JobState | None
) -> None:
    job_id = job_in_state(engine, state)
    if becomes is None:
        with pytest.raises(Conflict, match=state.value):
            ask(engine, job_id, request_)
    else:
        assert ask(engine, job_id, request_) is becomes


@pytest.mark.parametrize("request_", list(StopRequest))
def test_a_running_job_is_asked_and_hears_it_at_its_next_write(engine: Engine, request_: StopRequest) -> None:
    lease = running_job(engine)
    assert ask(engine, lease.job_id, request_) is JobState.RUNNING
    assert ask(engine, lease.job_id, request_) is JobState.RUNNING  # twice is harmless
    with write(engine) as conn:
        assert transitions.renew(conn, lease).stop_requested is request_
    with read(engine) as conn:
        events = queries.events_after(conn, lease.job_id)
    assert [event["data"]["stop_requested"] for event in events if "stop_requested" in event["data"]] == [request_]


def test_a_stronger_request_replaces_a_weaker_one_not_the_other_way(engine: Engine) -> None:
    lease = running_job(engine)
    for request in (StopRequest.DRAIN, PAUSE, FINISH, CANCEL):
        assert ask(engine, lease.job_id, request) is JobState.RUNNING
    with pytest.raises(Conflict, match="asked to cancel"):
        ask(engine, lease.job_id, PAUSE)
    assert ask(engine, lease.job_id, StopRequest.DRAIN, None) is JobState.RUNNING  # the system does not insist
    with write(engine) as conn:
        assert transitions.renew(conn, lease).stop_requested is CANCEL


@pytest.mark.parametrize("paused", [False, True])
def test_finish_of_a_job_with_a_checkpoint_lets_it_run_once_more(engine: Engine, paused: bool) -> None:
    lease = running_job(engine)
    commit_checkpoint(engine, lease)
    with write(engine) as conn:
        if paused:
            transitions.stop(conn, lease, outcome=AttemptOutcome.PAUSED)
        else:
            transitions.release(conn, lease, outcome=AttemptOutcome.DRAINED)
    assert ask(engine, lease.job_id, FINISH) is JobState.QUEUED
    assert claim_job(engine).stop_requested is FINISH


@pytest.mark.parametrize("state", [state for state in JobState if state not in (JobState.PAUSED, JobState.RUNNING)])
def test_only_paused_jobs_resume(engine: Engine, state: JobState) -> None:
    job_id = job_in_state(engine, state)
    with pytest.raises(Conflict, match="not paused"), write(engine) as conn:
        transitions.resume(conn, job_id, OWNER)


def test_another_owners_job_is_not_found(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    with pytest.raises(NotFound):
        ask(engine, job_id, CANCEL, "somebody-else")
    with pytest.raises(NotFound), write(engine) as conn:
        transitions.resume(conn, job_id, "somebody-else")
    with pytest.raises(NotFound), read(engine) as conn:
        queries.get_job(conn, job_id, "somebody-else")


def test_a_cancelled_job_is_never_claimed(engine: Engine) -> None:
    job_id = submit_job(engine).job_id
    ask(engine, job_id, CANCEL)
    with write(engine) as conn:
        assert transitions.claim(conn, transitions.Claimer("w", "cpu", "cpu", frozenset({"torch"})), 30.0) is None


def test_an_attempt_that_an_operator_ended_is_cancelled_even_if_its_worker_dies(engine: Engine) -> None:
    lease = running_job(engine)
    ask(engine, lease.job_id, FINISH)
    with write(engine) as conn:
        assert transitions.request_cancel(conn, lease).stop_requested is CANCEL
        assert not transitions.succeed(conn, lease, result={}, artifacts=[])
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        state = transitions.rescue(conn, job_id=lease.job_id, seen_fence=lease.fence, poison_limit=3)
    assert state is JobState.CANCELLED


# -- what is not computation ----------------------------------------------------------------------


def edit(engine: Engine, job_id: str, **changes: object) -> list[str]:
    with write(engine) as conn:
        return transitions.edit(conn, job_id, changes, OWNER, "somebody")


@pytest.mark.parametrize("state", list(JobState))
def test_name_notes_and_tags_of_any_job_are_edited_and_its_spec_stays(engine: Engine, state: JobState) -> None:
    job_id = job_in_state(engine, state, name="before", tags={"team": "vision", "old": "1"})
    new = edit(engine, job_id, name="after", notes="two\nlines", tags={"old": None, "night": "2"})
    with read(engine) as conn:
        row = queries.get_job(conn, job_id, None)
        (event,) = queries.events_after(conn, job_id, types=["edited"])
    assert (new, row["state"]) == (["name", "notes", "tags"], state)
    assert (row["name"], row["notes"], row["tags"]) == ("after", "two\nlines", {"team": "vision", "night": "2"})
    assert (row["spec"]["name"], row["spec"]["tags"]) == ("before", {"team": "vision", "old": "1"})
    assert event["data"]["by"] == "somebody"
    assert event["data"]["changes"]["name"] == {"before": "before", "after": "after"}


def test_a_waiting_job_that_is_given_a_priority_overtakes_the_others(engine: Engine) -> None:
    first, second = (submit_job(engine).job_id for _ in range(2))
    edit(engine, second, priority=8)
    assert [claim_job(engine).lease.job_id for _ in range(2)] == [second, first]


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_waits_no_more_keeps_its_priority(engine: Engine, state: JobState) -> None:
    job_id = job_in_state(engine, state)
    with pytest.raises(Conflict, match="while a job waits"):
        edit(engine, job_id, priority=1, name="not written either")
    with read(engine) as conn:
        assert queries.get_job(conn, job_id, None)["name"] is None


def test_an_edit_that_changes_nothing_leaves_no_event(engine: Engine) -> None:
    job_id = job_in_state(engine, JobState.QUEUED, name="same")
    assert edit(engine, job_id, name="same", tags={"none": None}, priority=5) == []
    with read(engine) as conn:
        assert queries.events_after(conn, job_id, types=["edited"]) == []


def test_an_attempt_goes_on_after_an_edit(engine: Engine) -> None:
    lease = running_job(engine)
    edit(engine, lease.job_id, notes="look at this one")
    with write(engine) as conn:
        assert transitions.succeed(conn, lease, result={}, artifacts=[])
    with read(engine) as conn:
        assert queries.get_job(conn, lease.job_id, None)["notes"] == "look at this one"


def test_another_owners_job_is_not_edited(engine: Engine) -> None:
    job_id = job_in_state(engine, JobState.QUEUED)
    with write(engine) as conn, pytest.raises(NotFound):
        transitions.edit(conn, job_id, {"name": "mine"}, "owner-2", "owner-2")
