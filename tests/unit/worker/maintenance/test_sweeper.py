"""Sweeps: as many trials as asked for and none twice, whatever dies or runs twice; pruning, pause, stop, the best."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, func, select, update

from nightshift.errors import Conflict, InvalidRequest, NotFound
from nightshift.states import JobState
from shared import failpoints
from shared.db.engine import make_engine, read, write
from shared.db.schema import jobs, schedules, sweep_trials, sweeps
from shared.jobs import queries as job_queries
from shared.jobs import transitions as job_transitions
from shared.jobs.queries import JobFilters
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import archiving
from shared.settings import Settings
from shared.sweeps import queries, transitions
from tests.support import warm
from tests.support.factories import ERROR, OWNER, commit_checkpoint
from tests.support.paths import ROOT
from tests.support.sweeps import (
    claim,
    job_ids,
    log_curve,
    make_sweep,
    poison,
    score,
    succeed,
    sweep_of,
    trials_of,
    work,
)
from tests.unit.shared.schedules.test_transitions import make_schedule
from worker.maintenance import dispatcher, sweeper

HOUSE = Settings()


def beat(engine: Engine) -> dict[str, int]:
    return sweeper.run_once(engine, HOUSE)


def finish(engine: Engine, sweep_id: str) -> Any:
    """Carry the sweep on until it has ended."""
    for _ in range(200):
        beat(engine)
        sweep = sweep_of(engine, sweep_id)
        if sweep.finished_at is not None:
            return sweep
        work(engine)
    raise AssertionError(f"the sweep goes on: {sweep}")


def assert_each_once(engine: Engine, sweep_id: str, count: int) -> None:
    """The trials are numbered without a gap, each has a job of its own, and there is no other job."""
    trials = trials_of(engine, sweep_id)
    assert [trial.number for trial in trials] == list(range(count))
    assert sorted(trial.job_id for trial in trials) == sorted(job_ids(engine))
    assert len({trial.job_id for trial in trials}) == count
    assert sweep_of(engine, sweep_id).started == count


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_sweep_has_its_trials_and_knows_the_best(engine: Engine, sampler: str) -> None:
    space = {
        "training.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "training.batch_size": {"low": 16, "high": 128, "step": 16},
        "training.optimizer": {"choices": ["adam", "sgd"]},
    }
    sweep_id = make_sweep(engine, space=space, sampler=sampler, trials=14, concurrency=3)
    assert beat(engine)["started"] == 3
    assert beat(engine) == dict.fromkeys(("started", "settled", "pruned", "held", "ended"), 0)
    sweep = finish(engine, sweep_id)
    assert_each_once(engine, sweep_id, 14)
    trials = trials_of(engine, sweep_id)
    assert (sweep.state, {trial.state for trial in trials}) == ("succeeded", {"complete"})
    assert trials[sweep.best].value == max(trial.value for trial in trials)
    assert set(sweep.importance) == set(space)
    with read(engine) as conn:
        for trial in trials:
            spec = job_queries.get_job(conn, trial.job_id, OWNER)["spec"]["training"]
            assert {f"training.{name}": spec[name] for name in ("learning_rate", "batch_size", "optimizer")} == (
                trial.params
            )
    assert len({str(trial.params) for trial in trials}) == 14


def test_the_same_seed_draws_the_same_trials_and_another_seed_others(engine: Engine) -> None:
    same = [make_sweep(engine, sampler="tpe", trials=12, concurrency=1, seed=seed) for seed in (5, 5, 6)]
    for sweep_id in same:
        finish(engine, sweep_id)
    first, again, other = ([trial.params for trial in trials_of(engine, sweep_id)] for sweep_id in same)
    assert first == again
    assert first != other


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "grid"])
def test_one_pass_starts_some_trials_and_draws_as_many_passes_do(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    space: dict[str, Any] = {
        "training.learning_rate": {"low": 0.001, "high": 0.1, "step": 0.001},
        "training.batch_size": {"low": 16, "high": 128, "step": 16},
    }
    drawn = []
    for starts in (1, 4):
        monkeypatch.setattr(sweeper, "STARTS", starts)
        sweep_id = make_sweep(engine, sampler=sampler, space=space, trials=12, concurrency=12)
        for _ in range(12 // starts):
            assert beat(engine)["started"] == starts
            with read(engine) as conn:
                assert queries.running_trials(conn, sweep_id) == len(trials_of(engine, sweep_id))
        drawn.append([trial.params for trial in trials_of(engine, sweep_id)])
    assert drawn[0] == drawn[1]


def test_a_grid_has_each_point_once_with_its_conditions(engine: Engine) -> None:
    space = {
        "training.optimizer": {"choices": ["adam", "sgd"]},
        "training.momentum": {"choices": [0.0, 0.5, 0.9], "when": {"training.optimizer": "sgd"}},
    }
    sweep_id = make_sweep(engine, space=space, sampler="grid", trials=4, concurrency=2)
    finish(engine, sweep_id)
    params = [trial.params for trial in trials_of(engine, sweep_id)]
    assert params[0] == {"training.optimizer": "adam"}
    assert [one.get("training.momentum") for one in params] == [None, 0.0, 0.5, 0.9]
    with write(engine) as conn, pytest.raises(InvalidRequest, match="4 points"):
        transitions.add_trials(conn, sweep_id, OWNER, 1)


def test_jobs_know_their_sweep_and_are_listed_by_it(engine: Engine) -> None:
    sweep_id = make_sweep(engine, name="rates", concurrency=2)
    other = make_sweep(engine)
    beat(engine)
    with read(engine) as conn:
        found = job_queries.list_jobs(conn, OWNER, JobFilters(sweep=sweep_id)).items
    assert {job["id"] for job in found} == {trial.job_id for trial in trials_of(engine, sweep_id)}
    assert sorted(job["sweep"]["number"] for job in found) == [0, 1]
    assert {job["sweep"]["id"] for job in found} == {sweep_id} != {other}
    assert {job["name"] for job in found} == {"rates · trial 0", "rates · trial 1"}


# -- crashes and races ----------------------------------------------------------------------------


def run_beats(url: str, failpoint: str) -> None:
    failpoints.arm(failpoint)
    engine = make_engine(url)
    for _ in range(10):
        beat(engine)


@pytest.mark.parametrize("place", ["asked", "counted", "trial_inserted", "settled", "decided", "closed"])
def test_a_killed_beat_neither_loses_nor_doubles_a_trial(engine: Engine, database_url: str, place: str) -> None:
    sweep_id = make_sweep(engine, sampler="tpe", trials=6, concurrency=2, pruner={"name": "median"})
    if place in ("settled", "decided"):
        beat(engine)
        claimed = claim(engine)
        assert claimed is not None
        log_curve(engine, claimed, 0.5, 0.6)
        if place == "settled":
            succeed(engine, claimed, 0.6)
    if place == "closed":
        for _ in range(3):
            beat(engine)
            work(engine)
    process = warm.Process("stack", target=run_beats, args=(database_url, f"sweep.{place}:kill@1"))
    process.start()
    process.join()
    assert process.exitcode == -9
    if place == "decided":
        succeed(engine, claimed, 0.6)
    assert finish(engine, sweep_id).state == "succeeded"
    assert_each_once(engine, sweep_id, 6)
    assert [trial.state for trial in trials_of(engine, sweep_id)] == ["complete"] * 6


@pytest.mark.usefixtures("long_database_timeouts")
def test_beats_side_by_side_neither_lose_nor_double_a_trial(database_url: str) -> None:
    engines = [make_engine(database_url) for _ in range(4)]
    sweep_id = make_sweep(engines[0], sampler="random", trials=20, concurrency=5)
    over = threading.Event()
    most: list[int] = []

    def carry_on(engine: Engine) -> None:
        while not over.is_set():
            beat(engine)

    beats = [threading.Thread(target=carry_on, args=(engine,)) for engine in engines[1:]]
    for thread in beats:
        thread.start()
    try:
        while sweep_of(engines[0], sweep_id).finished_at is None:
            with read(engines[0]) as conn:
                most.append(queries.running_trials(conn, sweep_id))
            work(engines[0])
    finally:
        over.set()
        for thread in beats:
            thread.join()
    assert_each_once(engines[0], sweep_id, 20)
    assert max(most) <= 5
    for engine in engines:
        engine.dispose()


def test_telling_twice_changes_nothing(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=1)
    beat(engine)
    work(engine)
    with read(engine) as conn:
        sweep = queries.row_of(conn, sweep_id)
        [row] = queries.unsettled(conn, sweep)
    told = sweeper.ended(row, sweep.metric)
    assert told is not None
    with write(engine) as conn:
        assert transitions.settle(conn, sweep_id, told, "max")
    with write(engine) as conn:
        assert not transitions.settle(conn, sweep_id, told, "max")
    with read(engine) as conn:
        assert [event["data"].get("state") for event in queries.events(conn, sweep_id)] == [
            "running",
            "running",
            "complete",
        ]


def test_a_trial_chosen_from_old_facts_is_not_started(engine: Engine) -> None:
    sweep_id = make_sweep(engine, concurrency=3)
    old = sweep_of(engine, sweep_id)
    beat(engine)
    with write(engine) as conn:
        assert transitions.start_trial(conn, old, {"training.learning_rate": 0.01}, {}) is None
    assert len(job_ids(engine)) == 3


# -- how trials end -------------------------------------------------------------------------------


def test_failed_and_cancelled_jobs_are_trials_without_a_value(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=4, concurrency=4)
    beat(engine)
    failed, nameless = claim(engine), claim(engine)
    assert failed is not None
    assert nameless is not None
    with write(engine) as conn:
        job_transitions.fail(conn, failed.lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR)
        job_transitions.succeed(conn, nameless.lease, result={"metrics": {"loss": 1.0}}, artifacts=[])
        left = [
            row.job_id
            for row in trials_of(engine, sweep_id)
            if row.job_id not in (failed.lease.job_id, nameless.lease.job_id)
        ]
        job_transitions.request_stop(conn, left[0], StopRequest.CANCEL, OWNER)
    sweep = finish(engine, sweep_id)
    ended = {trial.job_id: trial for trial in trials_of(engine, sweep_id)}
    assert (ended[failed.lease.job_id].state, ended[failed.lease.job_id].reason) == ("failed", "made to fail")
    assert ended[nameless.lease.job_id].reason == "its result has no metric 'test_accuracy'"
    assert ended[left[0]].state == "cancelled"
    assert (sweep.state, sweep.best) == ("succeeded", ended[left[1]].number)


def test_a_sweep_without_any_value_has_failed(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=3, concurrency=1)
    poison(engine, sweep_id)
    sweep = finish(engine, sweep_id)
    assert (sweep.state, sweep.best, job_ids(engine)) == ("failed", None, [])
    assert {trial.state for trial in trials_of(engine, sweep_id)} == {"failed"}
    assert "dataset" in trials_of(engine, sweep_id)[0].reason


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_a_sweep_whose_jobs_are_all_refused_fails_with_the_reason(engine: Engine, sampler: str) -> None:
    space = {"training.batch_size": {"low": 1, "high": 128, "step": 1}}
    sweep_id = make_sweep(engine, trials=100, concurrency=2, sampler=sampler, space=space)
    poison(engine, sweep_id)
    sweep = finish(engine, sweep_id)
    assert (sweep.state, job_ids(engine)) == ("failed", [])
    assert sweep.started == transitions.REFUSED_IN_A_ROW
    assert "dataset" in sweep.outcome["failed_because"]


def test_a_sweep_that_cannot_be_carried_on_fails_with_the_reason_and_goes_on_with_more_trials(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_id, other = (make_sweep(engine, trials=3, concurrency=2, sampler="tpe") for _ in range(2))
    beat(engine)
    with write(engine) as conn:  # the space of a family that knows it no more
        conn.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(space={}))
    work(engine)
    for _ in range(transitions.PROBLEMS_IN_A_ROW):
        assert sweep_of(engine, sweep_id).state == "running"
        beat(engine)
        work(engine)
    sweep = sweep_of(engine, sweep_id)
    assert (sweep.state, sweep.finished_at is None) == ("failed", False)
    assert "KeyError" in sweep.outcome["failed_because"]
    assert sweep_of(engine, other).state == "succeeded", "it delays no other"
    with write(engine) as conn:
        conn.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(space=sweep_of(engine, other).space))
        transitions.add_trials(conn, sweep_id, OWNER, 2)
    sweep = finish(engine, sweep_id)
    assert (sweep.state, sweep.outcome, sweep.started) == ("succeeded", None, 4)


def test_a_problem_that_passes_ends_no_sweep(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_id = make_sweep(engine, trials=4, concurrency=1)
    monkeypatch.setattr(transitions, "PROBLEMS_IN_A_ROW", 2)
    for _ in range(3):
        with monkeypatch.context() as broken:
            broken.setattr(sweeper.SweepPass, "run", fail)
            beat(engine)
        beat(engine)
        work(engine)
    sweep = finish(engine, sweep_id)
    assert (sweep.state, sweep.outcome) == ("succeeded", None)
    with read(engine) as conn:
        told = [event["data"]["error"] for event in queries.events(conn, sweep_id) if event["type"] == "problem"]
    assert told == ["RuntimeError: the memory is full"] * 3


def test_problems_between_passes_that_succeed_are_not_in_a_row(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_id = make_sweep(engine, trials=1)
    beat(engine)
    monkeypatch.setattr(transitions, "PROBLEMS_IN_A_ROW", 2)
    for _ in range(3):  # while the job of the trial runs, nothing else happens to the sweep
        with monkeypatch.context() as broken:
            broken.setattr(sweeper.SweepPass, "run", fail)
            beat(engine)
        beat(engine)
        beat(engine)
    assert sweep_of(engine, sweep_id).state == "running"
    with read(engine) as conn:
        told = [event["type"] for event in queries.events(conn, sweep_id)]
    assert told[-6:] == ["problem", "recovered"] * 3


def test_problems_of_a_sweep_that_has_ended_are_no_events(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_id = make_sweep(engine, trials=1)
    beat(engine)
    with write(engine) as conn:
        transitions.cancel(conn, sweep_id, OWNER)
    monkeypatch.setattr(sweeper.SweepPass, "run", fail)
    beat(engine)
    with read(engine) as conn:
        assert queries.active_ids(conn) == [sweep_id], "its trial is not settled"
        assert "problem" not in [event["type"] for event in queries.events(conn, sweep_id)]


def fail(*_: Any) -> None:
    raise RuntimeError("the memory is full")


@pytest.mark.parametrize("pruner", [{"name": "asha"}, {"name": "median", "startup_trials": 1}])
def test_a_bad_trial_finishes_early_and_keeps_its_value(engine: Engine, pruner: dict[str, Any]) -> None:
    sweep_id = make_sweep(engine, trials=3, concurrency=1, pruner=pruner)
    beat(engine)
    good = claim(engine)
    assert good is not None
    log_curve(engine, good, 0.7, 0.8, 0.9)
    beat(engine)
    succeed(engine, good, 0.9)
    beat(engine)
    bad = claim(engine)
    assert bad is not None
    log_curve(engine, bad, 0.1)
    assert beat(engine)["pruned"] == 1
    log_curve(engine, bad, 0.99, first=2)
    assert beat(engine)["pruned"] == 0
    with read(engine) as conn:
        assert job_queries.get_job(conn, bad.lease.job_id, OWNER)["stop_requested"] == "finish"
    succeed(engine, bad, 0.2)
    finish(engine, sweep_id)
    first, second, third = trials_of(engine, sweep_id)
    assert (first.state, first.reports) == ("complete", [0.7, 0.8, 0.9])
    assert (second.state, second.value, second.reports) == ("pruned", 0.2, [0.1])
    assert third.state == "complete"
    with read(engine) as conn:
        told = [event["data"] for event in queries.events(conn, sweep_id)]
    assert {"trial": 1, "state": "pruning"} in told


def test_one_pass_looks_at_some_points_and_at_every_trial_in_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "POINTS", 3)
    sweep_id = make_sweep(engine, trials=2, concurrency=2, pruner={"name": "median"})
    beat(engine)
    for _ in range(2):
        claimed = claim(engine)
        assert claimed is not None
        log_curve(engine, claimed, 0.1, 0.2, 0.3, 0.4)
    seen = []
    for _ in range(3):
        beat(engine)
        seen.append([len(trial.reports) for trial in trials_of(engine, sweep_id)])
    assert [sum(one) for one in seen] == [3, 6, 8]
    assert seen[1:] == [[3, 3], [4, 4]]


def test_a_job_that_has_just_ended_is_not_pruned(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=1, pruner={"name": "asha"})
    beat(engine)
    claimed = claim(engine)
    assert claimed is not None
    log_curve(engine, claimed, 0.1)
    succeed(engine, claimed, 0.1)
    report = transitions.Report(0, claimed.lease.job_id, 0, [0.1], 10, {}, prune=True)
    with write(engine) as conn:
        assert not transitions.report(conn, sweep_id, report)
    finish(engine, sweep_id)
    assert trials_of(engine, sweep_id)[0].state == "complete"


# -- requests -------------------------------------------------------------------------------------


def test_pause_holds_the_jobs_and_resume_lets_them_go_on(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=4, concurrency=2)
    beat(engine)
    running = claim(engine)
    assert running is not None
    commit_checkpoint(engine, running.lease)
    with write(engine) as conn:
        transitions.pause(conn, sweep_id, OWNER)
        transitions.pause(conn, sweep_id, OWNER)
    assert [state_of(engine, trial.job_id) for trial in trials_of(engine, sweep_id)] == ["running", "paused"]
    beat(engine)
    with write(engine) as conn:  # before the runner has seen the request
        transitions.resume(conn, sweep_id, OWNER)
        job_transitions.stop(conn, running.lease, outcome=AttemptOutcome.PAUSED)
    assert [state_of(engine, trial.job_id) for trial in trials_of(engine, sweep_id)] == ["paused", "queued"]
    assert beat(engine)["held"] == 1
    assert {state_of(engine, trial.job_id) for trial in trials_of(engine, sweep_id)} == {"queued"}
    assert not any(trial.held for trial in trials_of(engine, sweep_id))
    finish(engine, sweep_id)
    assert_each_once(engine, sweep_id, 4)


def state_of(engine: Engine, job_id: str) -> str:
    with read(engine) as conn:
        return str(conn.scalar(select(jobs.c.state).where(jobs.c.id == job_id)))


def test_stop_finishes_what_runs_and_keeps_the_best(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=9, concurrency=2)
    beat(engine)
    work(engine)
    beat(engine)
    running = claim(engine)
    assert running is not None
    with write(engine) as conn:
        transitions.stop(conn, sweep_id, OWNER)
    beat(engine)
    assert (sweep_of(engine, sweep_id).state, state_of(engine, running.lease.job_id)) == ("stopping", "running")
    succeed(engine, running, 0.999)
    beat(engine)
    sweep = sweep_of(engine, sweep_id)
    states = [trial.state for trial in trials_of(engine, sweep_id)]
    assert (sweep.state, sweep.started, states) == ("stopped", 4, ["complete", "complete", "pruned", "cancelled"])
    assert trials_of(engine, sweep_id)[sweep.best].value == 0.999


def test_cancel_ends_it_at_once_and_its_jobs_with_it(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=9, concurrency=2, on_best={"register_as": "digits"})
    beat(engine)
    work(engine)
    beat(engine)
    with write(engine) as conn:
        transitions.cancel(conn, sweep_id, OWNER)
    assert sweep_of(engine, sweep_id).state == "cancelled"
    beat(engine)
    sweep = sweep_of(engine, sweep_id)
    assert [trial.state for trial in trials_of(engine, sweep_id)] == ["complete"] * 2 + ["cancelled"] * 2
    assert sweep.outcome is None
    with write(engine) as conn, pytest.raises(Conflict, match="it cannot be stopped now"):
        transitions.stop(conn, sweep_id, OWNER)


@pytest.mark.parametrize("ask", [transitions.stop, transitions.pause])
def test_a_sweep_stops_and_pauses_though_one_of_its_jobs_has_just_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Connection, str, str], None]
) -> None:
    sweep_id = make_sweep(engine, trials=9, concurrency=2)
    beat(engine)
    ended = claim(engine)
    assert ended is not None
    with read(engine) as conn:
        before = transitions._running_jobs(conn, sweep_id)
    succeed(engine, ended, 0.5)
    monkeypatch.setattr(transitions, "_running_jobs", lambda *_: before)
    with write(engine) as conn:
        ask(conn, sweep_id, OWNER)
    beat(engine)
    assert sweep_of(engine, sweep_id).best == 0


def test_added_trials_learn_from_those_before(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=2, sampler="tpe")
    finish(engine, sweep_id)
    with write(engine) as conn:
        transitions.add_trials(conn, sweep_id, OWNER, 3)
    assert (sweep_of(engine, sweep_id).state, sweep_of(engine, sweep_id).finished_at) == ("running", None)
    assert finish(engine, sweep_id).state == "succeeded"
    assert_each_once(engine, sweep_id, 5)
    with write(engine) as conn, pytest.raises(InvalidRequest, match="at most 1000"):
        transitions.add_trials(conn, sweep_id, OWNER, 996)


def test_only_an_ended_sweep_is_deleted_and_its_jobs_stay(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=1)
    beat(engine)
    [job_id] = job_ids(engine)
    with write(engine) as conn, pytest.raises(Conflict, match="stop or cancel it first"):
        transitions.delete_sweep(conn, sweep_id, OWNER)
    work(engine)
    with write(engine) as conn, pytest.raises(Conflict, match=f"sweep {sweep_id}, whose trial 0 it is"):
        archiving.delete_job(conn, job_id, OWNER)
    finish(engine, sweep_id)
    with write(engine) as conn, pytest.raises(NotFound):
        transitions.delete_sweep(conn, sweep_id, "another")
    with write(engine) as conn:
        transitions.delete_sweep(conn, sweep_id, OWNER)
    with read(engine) as conn:
        assert conn.scalar(select(func.count()).select_from(sweep_trials)) == 0
    assert job_ids(engine) == [job_id]


# -- the best -------------------------------------------------------------------------------------


def test_promote_trains_once_more_with_the_best_parameters(engine: Engine) -> None:
    promote = {"metric": "test_accuracy", "evaluate_on": "digits"}
    sweep_id = make_sweep(engine, trials=3, on_best={"register_as": "digits", "promote": promote})
    sweep = finish(engine, sweep_id)
    job_id = sweep.outcome["job_id"]
    with read(engine) as conn:
        job = job_queries.get_job(conn, job_id, OWNER)
    assert job["spec"]["register_as"] == "digits"
    assert job["spec"]["promote"]["metric"] == "test_accuracy"
    best = trials_of(engine, sweep_id)[sweep.best]
    assert job["spec"]["training"]["learning_rate"] == best.params["training.learning_rate"]
    for _ in range(3):
        beat(engine)
    assert len(job_ids(engine)) == 4


def test_a_best_trial_that_added_ones_do_not_beat_is_not_registered_again(engine: Engine) -> None:
    promote = {"metric": "test_accuracy", "evaluate_on": "digits"}
    on_best = {"register_as": "digits", "promote": promote, "schedule": "gone"}
    sweep_id = make_sweep(engine, trials=3, on_best=on_best)
    before = finish(engine, sweep_id)
    assert set(before.outcome) == {"trial", "job_id", "refused"}
    work(engine)
    for value, same in ((0.0, True), (2.0, False)):
        with write(engine) as conn:
            transitions.add_trials(conn, sweep_id, OWNER, 1)
        beat(engine)
        work(engine, lambda claimed, value=value: value)  # type: ignore[misc]
        after = finish(engine, sweep_id)
        assert (after.best == before.best) is same
        assert (after.outcome["job_id"] == before.outcome["job_id"]) is same
    assert len(job_ids(engine)) == 3 + 2 + 2


def test_a_schedule_gets_the_best_parameters_and_keeps_the_rest(engine: Engine) -> None:
    schedule_id = make_schedule(engine, job={"name": "by {date}", "register_as": "digits", "dataset": "mnist"})
    sweep_id = make_sweep(engine, trials=3, on_best={"schedule": "nightly"})
    sweep = finish(engine, sweep_id)
    assert sweep.outcome == {"trial": sweep.best, "schedule": "nightly"}
    with read(engine) as conn:
        job = conn.scalar(select(schedules.c.job).where(schedules.c.id == schedule_id))
    best = trials_of(engine, sweep_id)[sweep.best]
    assert job["training"]["learning_rate"] == best.params["training.learning_rate"]
    assert (job["name"], job["register_as"], job["dataset"]) == ("by {date}", "digits", "mnist")


def test_what_is_refused_at_the_end_is_told(engine: Engine) -> None:
    sweep_id = make_sweep(engine, trials=1, on_best={"register_as": "digits", "schedule": "gone"})
    sweep = finish(engine, sweep_id)
    assert sweep.state == "succeeded"
    assert "has no artifacts" in sweep.outcome["refused"]["register_as"]
    assert "gone" in sweep.outcome["refused"]["schedule"]


# -- what a beat costs ----------------------------------------------------------------------------


def test_a_beat_without_sweeps_imports_no_optuna(sqlite_engine: Engine, sqlite_url: str) -> None:
    code = (
        "import sys; from shared.db.engine import make_engine; from shared.settings import Settings;"
        "from worker.maintenance import run_all, sweeper; import api.app, worker.beat;"
        f"sweeper.run_once(make_engine({sqlite_url!r}), Settings()); print('optuna' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False"]


def test_one_broken_sweep_delays_no_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, whole = make_sweep(engine), make_sweep(engine)
    start = sweeper.SweepPass._start

    def fails(self: sweeper.SweepPass) -> int:
        if self.sweep_id == broken:
            raise RuntimeError("broken")
        return start(self)

    monkeypatch.setattr(sweeper.SweepPass, "_start", fails)
    assert beat(engine)["started"] == 2
    assert len(trials_of(engine, whole)) == 2


def test_doorbells_follow_in_the_same_pass(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[str] = []
    monkeypatch.setattr(dispatcher, "ring", lambda device, job_id: rung.append(job_id))
    monkeypatch.setattr(dispatcher, "queue_lengths", lambda: {"auto": 0, "cpu": 0, "gpu": 0})
    make_sweep(engine, concurrency=1)
    beat(engine)
    dispatcher.run_once(engine, HOUSE)
    assert rung == job_ids(engine)
    assert state_of(engine, rung[0]) == JobState.QUEUED.value
    assert score(claim(engine) or pytest.fail("nothing to claim")) < 1
