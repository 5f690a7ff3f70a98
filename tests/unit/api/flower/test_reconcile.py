"""Flower's own list of tasks, corrected by and completed from SQL. Its events are given by hand here; real ones are in
tests/integration/test_attempts_in_flower.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Engine
from tornado.ioloop import IOLoop

from api.flower import reconcile
from api.flower.attempts import celery_state
from api.flower.reconcile import ReconciledEvents
from nightshift.states import JobState
from shared.celery_app import ATTEMPT_TASK, make_celery
from shared.db.engine import write
from shared.errors import DatabaseUnavailable
from shared.jobs import transitions
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import Lease
from shared.settings import Settings
from tests.support.factories import claim_job, expire_lease, make_claimer, submit_job

LEASE_SECONDS = 30.0


class Receiver:
    """Flower's receiver of events without its thread and its loop."""

    def __init__(self, engine: Engine) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop_of_flower = IOLoop(asyncio_loop=self.loop, make_current=False)
        self.loop_of_flower.add_callback = self._now  # type: ignore[method-assign]
        capp = make_celery(Settings(redis_url="redis://nowhere"), role="worker")  # type: ignore[arg-type]
        self.events = ReconciledEvents(capp, self.loop_of_flower, engine, LEASE_SECONDS, max_tasks=100)

    def _now(self, callback: Any, *args: Any, **kwargs: Any) -> None:
        callback(*args, **kwargs)

    def send(self, kind: str, task: str, **fields: Any) -> None:
        about = {"uuid": task, "hostname": "cpu0@test", "timestamp": 1.0, "local_received": 1.0, "clock": 1}
        self.events.on_event({"type": kind, **about, **fields})

    def begin(self, task: str) -> None:
        self.send("task-received", task, name=ATTEMPT_TASK, args="1a2b", kwargs="{}")
        self.send("task-started", task)

    def compare(self) -> None:
        self.loop.run_until_complete(self.events.compare())

    def task(self, task: str) -> Any:
        return self.events.state.tasks.data.get(task)

    def state(self, task: str) -> str | None:
        found = self.task(task)
        return found.state if found else None


@pytest.fixture
def receiver(sqlite_engine: Engine) -> Any:
    receiver = Receiver(sqlite_engine)
    yield receiver
    receiver.loop.close()


def claimed(engine: Engine, task: str, **fields: Any) -> Lease:
    submit_job(engine, **fields)
    return claim_job(engine, make_claimer(celery_task_id=task)).lease


def settle(engine: Engine, lease: Lease, state: JobState) -> None:
    with write(engine) as conn:
        if state is JobState.SUCCEEDED:
            transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[])
        elif state is JobState.FAILED:
            error = {"type": "bad_data", "message": "row 7 is empty", "retryable": False}
            transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=error)
        else:
            transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)


STATES = [(JobState.SUCCEEDED, "SUCCESS"), (JobState.FAILED, "FAILURE"), (JobState.CANCELLED, "REVOKED")]


@pytest.mark.parametrize(("state", "shown"), STATES)
def test_the_end_that_celery_calls_a_success_is_what_sql_says(
    sqlite_engine: Engine, receiver: Receiver, state: JobState, shown: str
) -> None:
    receiver.begin("t1")
    settle(sqlite_engine, claimed(sqlite_engine, "t1", name="digits nightly"), state)
    receiver.send("task-succeeded", "t1", result="None", runtime=0.1)
    task = receiver.task("t1")
    assert task.state == shown
    assert task.args.startswith("digits nightly · ")
    assert task.kwargs == "train cnn/mnist-1conv-linear (torch) on digits"
    assert task.exception == ("bad_data: row 7 is empty" if shown == "FAILURE" else None)


def test_an_end_that_sql_does_not_know_is_not_believed(sqlite_engine: Engine, receiver: Receiver) -> None:
    lease = claimed(sqlite_engine, "t1")
    receiver.begin("t1")
    receiver.send("task-succeeded", "t1", result="None", runtime=0.1)
    assert receiver.state("t1") == "STARTED"
    expire_lease(sqlite_engine, lease.job_id)
    with write(sqlite_engine) as conn:
        transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3)
    receiver.compare()
    assert receiver.state("t1") == "FAILURE"
    assert receiver.task("t1").exception.startswith("lost: worker cpu0@test did not renew its lease")


def test_a_doorbell_that_found_nothing_leaves_the_list(receiver: Receiver) -> None:
    receiver.begin("t1")
    assert receiver.task("t1").kwargs == "doorbell (job 1a2b)"
    receiver.send("task-succeeded", "t1", result="None", runtime=0.1)
    assert receiver.task("t1") is None
    page = receiver.events.state.search_engine.search(receiver.events.state.tasks, "doorbell")
    assert (page.task_ids, page.total_count) == ([], 0)
    assert receiver.events.state.counter["cpu0@test"]["task-succeeded"] == 1, "it is counted all the same"


def test_progress_is_seen_and_found_by_a_search(sqlite_engine: Engine, receiver: Receiver) -> None:
    lease = claimed(sqlite_engine, "t1", name="digits nightly")
    receiver.begin("t1")
    with write(sqlite_engine) as conn:
        transitions.record(conn, lease, progress={"percent": 41.7, "loss": 0.25}, metrics=[], logs=[])
    receiver.compare()
    assert receiver.task("t1").result == "42% · loss 0.25"
    page = receiver.events.state.search_engine.search(receiver.events.state.tasks, "args:nightly")
    assert page.task_ids == ["t1"]


@pytest.mark.parametrize(("state", "shown"), STATES)
def test_what_was_never_heard_comes_from_sql(
    sqlite_engine: Engine, receiver: Receiver, state: JobState, shown: str
) -> None:
    """After a restart of Flower, or of Redis."""
    ended = claimed(sqlite_engine, "t1")
    settle(sqlite_engine, ended, state)
    claimed(sqlite_engine, "t2")
    receiver.compare()
    assert (receiver.state("t1"), receiver.state("t2")) == (shown, "STARTED")
    assert receiver.task("t1").worker.hostname == "cpu0@test"
    assert not receiver.task("t1").worker.alive, "an old attempt is no sign of life"
    receiver.send("task-received", "t2", name=ATTEMPT_TASK, args="1a2b", kwargs="{}")
    assert receiver.task("t2").kwargs.startswith("train "), "a late beginning does not change what it is about"


def test_an_end_that_could_not_be_checked_is_corrected_later(
    sqlite_engine: Engine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.begin("t1")
    settle(sqlite_engine, claimed(sqlite_engine, "t1"), JobState.FAILED)

    def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(reconcile, "by_task", away)
        receiver.send("task-succeeded", "t1", result="None", runtime=0.1)
        assert receiver.state("t1") == "SUCCESS"
        with pytest.raises(DatabaseUnavailable):
            receiver.compare()
    receiver.compare()
    assert receiver.state("t1") == "FAILURE"


def test_a_doorbell_whose_worker_died_does_not_stay_started(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(reconcile.time, "monotonic", lambda: now[0])
    receiver.begin("t1")
    receiver.compare()
    now[0] += LEASE_SECONDS
    receiver.compare()
    assert receiver.state("t1") == "STARTED"
    now[0] += 1
    receiver.compare()
    assert receiver.state("t1") is None


def test_other_tasks_are_left_alone(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(reconcile.time, "monotonic", lambda: now[0])
    receiver.send("task-received", "t1", name="other.task", args="(1,)", kwargs="{}")
    receiver.send("task-started", "t1")
    receiver.compare()
    now[0] += 10 * LEASE_SECONDS
    receiver.compare()
    assert receiver.state("t1") == "STARTED"
    receiver.send("task-succeeded", "t1", result="2", runtime=0.1)
    assert (receiver.state("t1"), receiver.task("t1").args, receiver.task("t1").result) == ("SUCCESS", "(1,)", "2")


def test_forged_events_do_not_stop_the_comparison(sqlite_engine: Engine, receiver: Receiver) -> None:
    for forged in ("\x00", "x" * 10_000, "\ud800", "t1; DROP TABLE jobs"):
        receiver.begin(forged)
        receiver.send("task-succeeded", forged, result="None", runtime=0.1)
        receiver.begin(forged)
    receiver.send("worker-heartbeat", "", freq=2.0)
    settle(sqlite_engine, claimed(sqlite_engine, "t1"), JobState.SUCCEEDED)
    receiver.compare()
    assert receiver.state("t1") == "SUCCESS"


def test_every_outcome_has_a_word_of_celery() -> None:
    words = {outcome.value: celery_state(outcome) for outcome in AttemptOutcome}
    assert words == {
        "succeeded": "SUCCESS",
        **dict.fromkeys(
            ["job_error", "out_of_memory", "crashed", "device_failed", "stalled", "timed_out", "lost"], "FAILURE"
        ),
        **dict.fromkeys(["preempted", "drained", "paused", "cancelled"], "REVOKED"),
    }
    assert celery_state(None) == "STARTED"
