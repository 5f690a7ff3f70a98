"""What an attempt writes: under its fence, one row per (name, step), in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, select

from shared.clock import sqlite_clock
from shared.db.engine import read, write
from shared.db.schema import checkpoints, curve_summaries, jobs
from shared.errors import LeaseLost
from shared.jobs import queries, transitions
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import ArtifactRecord, Lease, LogRow, MetricRow
from tests.support.factories import (
    ERROR,
    OWNER,
    claim_job,
    commit_checkpoint,
    expire_lease,
    make_checkpoint,
    running_job,
)

ARTIFACT = ArtifactRecord("curves.png", "jobs/x/attempts/1/artifacts/curves.png", "a" * 64, 10, "image/png")


def lost_and_claimed_again(engine: Engine) -> tuple[Lease, Lease]:
    """A stale lease and the one that replaced it."""
    stale = running_job(engine)
    expire_lease(engine, stale.job_id)
    with write(engine) as conn:
        transitions.rescue(conn, job_id=stale.job_id, seen_fence=1, poison_limit=3)
    return stale, claim_job(engine).lease


#: Every way an attempt can write.
WRITES: dict[str, Callable[[Connection, Lease], object]] = {
    "renew": transitions.renew,
    "request_cancel": transitions.request_cancel,
    "pin": lambda conn, lease: transitions.pin(conn, lease, {"x": 1}),
    "begin": lambda conn, lease: transitions.begin(
        conn, lease, device_label="cpu", resumed_from=None, resumed_step=None, quarantined=[]
    ),
    "record": lambda conn, lease: transitions.record(conn, lease, metrics=[MetricRow("loss", 1, 0, 1.0)]),
    "commit_checkpoint": lambda conn, lease: transitions.commit_checkpoint(conn, lease, make_checkpoint()),
    "delete_checkpoints": lambda conn, lease: transitions.delete_checkpoints(conn, lease, ["x"]),
    "commit_artifacts": lambda conn, lease: transitions.commit_artifacts(conn, lease, [ARTIFACT]),
    "succeed": lambda conn, lease: transitions.succeed(conn, lease, result={}, artifacts=[ARTIFACT]),
    "fail": lambda conn, lease: transitions.fail(conn, lease, outcome=AttemptOutcome.JOB_ERROR, error=ERROR),
    "stop": lambda conn, lease: transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED),
    "release": lambda conn, lease: transitions.release(conn, lease, outcome=AttemptOutcome.DRAINED),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_stale_fence_writes_nothing(engine: Engine, name: str) -> None:
    stale, _ = lost_and_claimed_again(engine)
    before = everything(engine)
    with pytest.raises(LeaseLost), write(engine) as conn:
        WRITES[name](conn, stale)
    assert everything(engine) == before


@pytest.mark.parametrize("name", WRITES)
def test_a_lease_that_was_taken_back_writes_nothing_before_the_next_claim(engine: Engine, name: str) -> None:
    stale = running_job(engine)
    expire_lease(engine, stale.job_id)
    with write(engine) as conn:
        transitions.rescue(conn, job_id=stale.job_id, seen_fence=1, poison_limit=3)
    before = everything(engine)
    with pytest.raises(LeaseLost), write(engine) as conn:
        WRITES[name](conn, stale)
    assert everything(engine) == before


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_after_cancelled(engine: Engine, name: str) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.request_stop(conn, lease.job_id, StopRequest.CANCEL, OWNER)
        transitions.stop(conn, lease, outcome=AttemptOutcome.CANCELLED)
    before = everything(engine)
    if name in ("stop", "release"):  # repeating how it ended is harmless: the answer to the COMMIT may have been lost
        with write(engine) as conn:
            WRITES[name](conn, lease)
    else:
        with pytest.raises(LeaseLost), write(engine) as conn:
            WRITES[name](conn, lease)
    assert everything(engine) == before


def everything(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    from shared.db.schema import metadata

    with read(engine) as conn:
        return {
            name: [tuple(map(str, row)) for row in conn.execute(select(table))]
            for name, table in metadata.tables.items()
        }


@pytest.mark.parametrize("name", ["renew", "begin", "record", "commit_checkpoint", "commit_artifacts"])
def test_every_effect_renews_the_lease_and_tells_what_is_asked(engine: Engine, name: str) -> None:
    lease = running_job(engine, timeout_seconds=500.0)
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        transitions.request_stop(conn, lease.job_id, StopRequest.PAUSE, OWNER)
    with write(engine) as conn:
        standing = WRITES[name](conn, lease)
    assert isinstance(standing, transitions.AttemptStatus)
    assert standing.stop_requested is StopRequest.PAUSE
    assert standing.lease_until == pytest.approx(standing.now + lease.seconds, abs=10)
    assert standing.deadline_at == pytest.approx(standing.now + 500, abs=100)


def test_leases_go_by_the_databases_clock(sqlite_engine: Engine) -> None:
    """Where the worker's own clock is an hour slow, its lease would have run out before it began."""
    sqlite_clock.offset = 3600
    lease = running_job(sqlite_engine)
    with write(sqlite_engine) as conn:
        transitions.record(conn, lease, metrics=[MetricRow("loss", 1, 0, 1.0)])
    with read(sqlite_engine) as conn:
        assert transitions.expired(conn) == []


def test_one_row_per_name_and_step_the_latest_wins(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.record(conn, lease, metrics=[MetricRow("loss", 1, 0, 1.0), MetricRow("loss", 1, 0, 2.0)])
        transitions.record(conn, lease, metrics=[MetricRow("loss", 2, 0, 3.0), MetricRow("accuracy", 2, 0, 0.5)])
        transitions.record(conn, lease, metrics=[MetricRow("loss", 2, 1, 4.0)])
    with read(engine) as conn:
        points = [(p["name"], p["step"], p["epoch"], p["value"]) for p in queries.metrics(conn, lease.job_id)]
    assert points == [("accuracy", 2, 0, 0.5), ("loss", 1, 0, 2.0), ("loss", 2, 1, 4.0)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_an_error_not_a_row(engine: Engine, value: float) -> None:
    lease = running_job(engine)
    with pytest.raises(ValueError, match="loss at step 3"), write(engine) as conn:
        transitions.record(conn, lease, metrics=[MetricRow("loss", 3, 0, value)])
    with read(engine) as conn:
        assert queries.metrics(conn, lease.job_id) == []


def test_a_resumed_attempt_takes_back_metrics_beyond_its_checkpoint(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.record(conn, lease, metrics=[MetricRow("loss", step, 0, step) for step in range(1, 11)])
    checkpoint = commit_checkpoint(engine, lease, step=6)
    assert steps_after_resume(engine, lease, checkpoint.id, 6) == [1, 2, 3, 4, 5, 6]


def test_an_attempt_from_the_beginning_takes_back_all_metrics(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.record(conn, lease, metrics=[MetricRow("loss", step, 0, step) for step in range(11)])
    assert steps_after_resume(engine, lease, None, None) == []


def test_what_a_curve_has_come_to_is_that_of_the_points_that_stay(engine: Engine) -> None:
    lease = running_job(engine)
    checkpoint = commit_checkpoint(engine, lease, step=2)
    with write(engine) as conn:
        points = [MetricRow("val_loss", step, 0, value) for step, value in enumerate((0.5, 0.4, 0.6, 0.1, 0.9))]
        transitions.record(conn, lease, metrics=[*points, MetricRow("g_loss", 3, 0, 1.0)])
    assert steps_after_resume(engine, lease, checkpoint.id, 2) == [0, 1, 2]
    with read(engine) as conn:
        (found,) = conn.execute(select(curve_summaries)).all()
    assert (found.name, found.step, found.last, found.lowest, found.highest) == ("val_loss", 2, 0.6, 0.4, 0.6)


def steps_after_resume(engine: Engine, lease: Lease, resumed_from: str | None, step: int | None) -> list[int]:
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        transitions.rescue(conn, job_id=lease.job_id, seen_fence=lease.fence, poison_limit=3)
    again = claim_job(engine).lease
    with write(engine) as conn:
        transitions.begin(conn, again, device_label="cpu", resumed_from=resumed_from, resumed_step=step, quarantined=[])
    with read(engine) as conn:
        newest = queries.attempts(conn, lease.job_id)[0]
        assert (newest["resumed_from"], newest["resumed_step"]) == (resumed_from, step)
        return [point["step"] for point in queries.metrics(conn, lease.job_id)]


def test_a_damaged_checkpoint_is_quarantined_and_the_one_before_is_the_jobs(engine: Engine) -> None:
    lease = running_job(engine)
    good, damaged = commit_checkpoint(engine, lease, step=10), commit_checkpoint(engine, lease, step=20)
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3)
    again = claim_job(engine).lease
    with write(engine) as conn:
        transitions.begin(
            conn, again, device_label="cpu", resumed_from=good.id, resumed_step=10, quarantined=[damaged.id]
        )
    with read(engine) as conn:
        states = {row["id"]: row["state"] for row in queries.checkpoints(conn, lease.job_id)}
        assert conn.scalar(select(jobs.c.checkpoint_id).where(jobs.c.id == lease.job_id)) == good.id
    assert states == {good.id: "ready", damaged.id: "quarantined"}


def test_a_checkpoint_ends_the_streak_of_deaths(engine: Engine) -> None:
    _, lease = lost_and_claimed_again(engine)
    with read(engine) as conn:
        assert queries.get_job(conn, lease.job_id, OWNER)["lost_streak"] == 1
    commit_checkpoint(engine, lease)
    with read(engine) as conn:
        assert queries.get_job(conn, lease.job_id, OWNER)["lost_streak"] == 0


def test_there_is_one_best_checkpoint(engine: Engine) -> None:
    lease = running_job(engine)
    commit_checkpoint(engine, lease, step=1, is_best=True)
    best = commit_checkpoint(engine, lease, step=2, is_best=True)
    commit_checkpoint(engine, lease, step=3)
    with read(engine) as conn:
        found = conn.scalars(select(checkpoints.c.id).where(checkpoints.c.is_best)).all()
    assert found == [best.id]


def test_a_checkpoint_whose_answer_was_lost_may_be_committed_again(engine: Engine) -> None:
    lease = running_job(engine)
    checkpoint = commit_checkpoint(engine, lease)
    with write(engine) as conn:
        transitions.commit_checkpoint(conn, lease, checkpoint)
    with read(engine) as conn:
        assert [row["id"] for row in queries.checkpoints(conn, lease.job_id)] == [checkpoint.id]


def test_deleted_checkpoints_are_no_longer_listed(engine: Engine) -> None:
    lease = running_job(engine)
    kept, dropped = commit_checkpoint(engine, lease, step=2), commit_checkpoint(engine, lease, step=1)
    with write(engine) as conn:
        transitions.delete_checkpoints(conn, lease, [dropped.id, "of another job"])
    with read(engine) as conn:
        assert [row["id"] for row in queries.checkpoints(conn, lease.job_id)] == [kept.id]


def test_logs_keep_their_order_and_any_text(engine: Engine) -> None:
    lease = running_job(engine)
    lines = ["first", "nul \0 byte", "lone \ud800 surrogate", "x" * 20_000]
    with write(engine) as conn:
        transitions.record(conn, lease, logs=[LogRow("stdout", line) for line in lines])
    with read(engine) as conn:
        logs = queries.logs(conn, lease.job_id)
    assert [line["message"] for line in logs] == ["first", "nul ␀ byte", "lone ? surrogate", "x" * 10_000]
    assert [line["seq"] for line in logs] == sorted(line["seq"] for line in logs)


def test_what_is_pinned_stays(engine: Engine) -> None:
    lease = running_job(engine, pinned={"dataset": "digits@1"})
    with write(engine) as conn:
        transitions.pin(conn, lease, {"dataset": "digits@2", "threads": 1})
    with read(engine) as conn:
        assert queries.get_job(conn, lease.job_id, OWNER)["pinned"] == {"dataset": "digits@1", "threads": 1}


def test_what_names_meant_is_shown(engine: Engine) -> None:
    lease = running_job(engine, pinned={"dataset": "digits@1", "family": "cnn"})
    for parent, shown in (
        ({"name": "m", "version": 2, "ref": "m"}, "m@2"),
        ({"name": None, "ref": "job:abcd"}, "job:abcd"),
    ):
        with write(engine) as conn:
            transitions.pin(conn, lease, {"parent": parent})
            found = queries.job_view(queries.get_job(conn, lease.job_id, OWNER))["pinned"]
            conn.execute(jobs.update().values(pinned={"dataset": "digits@1"}))
        assert found == {"dataset": "digits@1", "model": shown}
