"""Reading: pages, streams, curves, counts."""

from __future__ import annotations

import base64
import math
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, update

from nightshift.errors import Conflict, MalformedRequest, NotFound
from nightshift.states import JobState
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.jobs import queries, transitions
from shared.jobs.queries import JobFilters, cursors
from shared.jobs.states import AttemptOutcome, StopRequest
from shared.jobs.transitions import ArtifactRecord, LogRow, MetricRow
from tests.support.factories import (
    OWNER,
    claim_job,
    commit_checkpoint,
    expire_lease,
    job_in_state,
    running_job,
    submit_job,
)

# -- one job, many jobs ---------------------------------------------------------------------------


def pages(engine: Engine, limit: int, **filters: object) -> list[list[str]]:
    found, cursor = [], None
    while True:
        with read(engine) as conn:
            page = queries.list_jobs(conn, OWNER, JobFilters(**filters), cursor, limit)  # type: ignore[arg-type]
        found.append([job["id"] for job in page.items])
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_pages_are_newest_first_without_gap_or_double(engine: Engine) -> None:
    ids = [submit_job(engine).job_id for _ in range(7)]
    with write(engine) as conn:  # the same instant: the id decides
        conn.execute(update(jobs).where(jobs.c.id.in_(ids[2:5])).values(created_at=1e9))
    found = pages(engine, 2)
    assert [len(page) for page in found] == [2, 2, 2, 1]
    flat = [job_id for page in found for job_id in page]
    assert flat == [ids[6], ids[5], ids[1], ids[0], *sorted(ids[2:5], reverse=True)]


def test_a_page_that_is_just_full_is_the_last(engine: Engine) -> None:
    for _ in range(4):
        submit_job(engine)
    assert [len(page) for page in pages(engine, 2)] == [2, 2]


def test_new_jobs_do_not_disturb_pages_that_are_being_read(engine: Engine) -> None:
    ids = [submit_job(engine).job_id for _ in range(4)]
    with read(engine) as conn:
        first = queries.list_jobs(conn, OWNER, limit=2)
    submit_job(engine)
    with read(engine) as conn:
        second = queries.list_jobs(conn, OWNER, cursor=first.next_cursor, limit=2)
    assert [job["id"] for job in first.items + second.items] == ids[::-1]


def test_filters(engine: Engine) -> None:
    plain = submit_job(engine).job_id
    tagged = submit_job(engine, tags={"team": "vision", 'odd "key"$.[0]': "a=b"}).job_id
    failed = job_in_state(engine, JobState.FAILED)
    submit_job(engine, owner_id="somebody-else", tags={"team": "vision"})

    def ids(**filters: object) -> set[str]:
        return {job_id for page in pages(engine, 50, **filters) for job_id in page}

    assert ids() == {plain, tagged, failed}
    assert ids(states=("failed", "cancelled")) == {failed}
    assert ids(kind="train", family="cnn") == {plain, tagged, failed}
    assert ids(kind="evaluate") == set()
    assert ids(family="gan") == set()
    assert ids(tag="team=vision") == ids(tag="team") == {tagged}
    assert ids(tag='odd "key"$.[0]=a=b') == {tagged}
    assert ids(tag="team=sound") == ids(tag="'); --") == ids(tag='"') == set()


def test_ids_may_be_shortened_while_unique(engine: Engine) -> None:
    a, b, other = (submit_job(engine).job_id for _ in range(3))
    with write(engine) as conn:
        conn.exec_driver_sql("DELETE FROM job_events")
        for job_id, new in ((a, "abcd000000000001"), (b, "abcd000000000002"), (other, "abce000000000003")):
            conn.execute(update(jobs).where(jobs.c.id == job_id).values(id=new))
    with read(engine) as conn:
        assert queries.find_id(conn, "abce", OWNER) == "abce000000000003"
        assert queries.find_id(conn, "abcd000000000001", OWNER) == "abcd000000000001"
        with pytest.raises(Conflict, match="abcd000000000002"):
            queries.find_id(conn, "abcd", OWNER)
        for nothing in ("ff", "", "%", "abce0000000000031"):
            with pytest.raises(NotFound):
                queries.find_id(conn, nothing, OWNER)
        with pytest.raises(NotFound):
            queries.find_id(conn, "abce", "somebody-else")


# -- cursors --------------------------------------------------------------------------------------


@given(position=st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)))
def test_a_cursor_comes_back_as_it_went(position: tuple[float, str]) -> None:
    assert cursors.decode("jobs", cursors.encode("jobs", *position), float, str) == position


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(cursor=st.text(max_size=100))
def test_what_is_no_cursor_is_malformed(cursor: str) -> None:
    with pytest.raises(MalformedRequest):
        cursors.decode("jobs", cursor, float, str)


def test_a_cursor_that_was_tampered_with_is_malformed() -> None:
    cursor = cursors.encode("jobs", 1.5, "abcd")
    changed = [
        cursor[:-1],
        cursor + "A",
        cursor + "=",
        cursor[::-1],
        cursors.encode("logs", 1.5, "abcd"),
        cursors.encode("jobs", "1.5", "abcd"),
        cursors.encode("jobs", 1.5),
        base64.urlsafe_b64encode(b"\0" * 6 + b'[1.5,"abcd"]').decode(),
        "x" * 10_000,
    ]
    changed += [cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))]
    for bad in changed:
        with pytest.raises(MalformedRequest):
            cursors.decode("jobs", bad, float, str)


# -- the stream -----------------------------------------------------------------------------------


def test_the_stream_tells_everything_once_in_order(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.begin(conn, lease, device_label="cpu", resumed_from=None, resumed_step=None, quarantined=[])
        transitions.record(
            conn,
            lease,
            progress={"step": 1},
            metrics=[MetricRow("loss", 1, 0, 0.5)],
            logs=[LogRow("info", "hello")],
        )
        transitions.request_stop(conn, lease.job_id, StopRequest.FINISH, OWNER)
    commit_checkpoint(engine, lease, step=1)
    artifact = ArtifactRecord("curves.png", "jobs/x", "a" * 64, 10, "image/png")
    with write(engine) as conn:
        transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[artifact])
    with read(engine) as conn:
        events = queries.events_after(conn, lease.job_id)
    assert [event["type"] for event in events] == [
        "state",  # queued
        "state",  # running
        "state",  # the attempt began
        "log",
        "metric",
        "progress",
        "state",  # finish was requested
        "checkpoint",
        "artifact",
        "state",  # succeeded
    ]
    assert [event["seq"] for event in events] == list(range(1, 11)), "no gap, so a reader knows what it has"
    assert [event["data"]["state"] for event in events if event["type"] == "state"] == [
        "queued",
        "running",
        "running",
        "running",
        "succeeded",
    ]
    assert events[4]["data"] == {"name": "loss", "step": 1, "epoch": 0, "value": 0.5}


def test_the_stream_resumes_at_any_number_and_in_any_bites(engine: Engine) -> None:
    lease = running_job(engine)
    for step in range(1, 6):
        with write(engine) as conn:
            transitions.record(
                conn,
                lease,
                progress={"step": step},
                metrics=[MetricRow("loss", step, 0, 1.0), MetricRow("accuracy", step, 0, 1.0)],
                logs=[LogRow("info", str(step))],
            )
    with read(engine) as conn:
        whole = queries.events_after(conn, lease.job_id)
        for bite in (1, 2, 3, 7):
            read_so_far: list[dict[str, object]] = []
            while more := queries.events_after(
                conn, lease.job_id, int(str((read_so_far or [{"seq": 0}])[-1]["seq"])), bite
            ):
                assert len(more) <= bite
                read_so_far += more
            assert [event["seq"] for event in read_so_far] == [event["seq"] for event in whole]


def test_only_the_latest_progress_is_told(engine: Engine) -> None:
    lease = running_job(engine)
    for step in (1, 2, 3):
        with write(engine) as conn:
            transitions.record(conn, lease, progress={"step": step})
    with read(engine) as conn:
        told = [event for event in queries.events_after(conn, lease.job_id) if event["type"] == "progress"]
    assert [event["data"]["step"] for event in told] == [3]


# -- curves ---------------------------------------------------------------------------------------


def curve(engine: Engine, values: list[float], **arguments: int) -> list[tuple[int, float]]:
    lease = running_job(engine)
    with write(engine) as conn:
        transitions.record(
            conn, lease, metrics=[MetricRow("loss", step, 0, value) for step, value in enumerate(values)]
        )
        transitions.record(conn, lease, metrics=[MetricRow("accuracy", 3, 0, 0.5)])
    with read(engine) as conn:
        points = queries.metrics(conn, lease.job_id, "loss", **arguments)
    return [(point["step"], point["value"]) for point in points]


def test_a_short_curve_is_whole(engine: Engine) -> None:
    assert curve(engine, [1.0, 2.0, 3.0], max_points=10) == [(0, 1.0), (1, 2.0), (2, 3.0)]


@pytest.mark.parametrize("max_points", [4, 5, 50, 333])
def test_a_long_curve_is_thinned_but_keeps_ends_and_extremes(engine: Engine, max_points: int) -> None:
    random.seed(max_points)
    values = [math.sin(step / 50) + random.random() / 10 for step in range(1000)]
    values[417], values[801] = 99.0, -99.0
    points = curve(engine, values, max_points=max_points)
    assert len(points) <= max_points
    assert len(points) >= max_points // 2
    assert points == sorted(points)
    assert points[0][0] == 0
    assert points[-1][0] == 999
    assert (417, 99.0) in points
    assert (801, -99.0) in points


def test_a_flat_curve_is_thinned_too(engine: Engine) -> None:
    assert len(curve(engine, [1.0] * 1000, max_points=20)) <= 20


def test_every_curve_is_thinned_by_itself(engine: Engine) -> None:
    lease = running_job(engine)
    rows = [MetricRow(name, step, 0, float(step)) for name in ("a", "b") for step in range(100)]
    with write(engine) as conn:
        transitions.record(conn, lease, metrics=[*rows, MetricRow("c", 1, 0, 1.0)])
    with read(engine) as conn:
        points = queries.metrics(conn, lease.job_id, max_points=10)
    names = [point["name"] for point in points]
    assert names == sorted(names)
    assert {name: names.count(name) for name in set(names)} == {"a": 8, "b": 8, "c": 1}


def test_after_step(engine: Engine) -> None:
    assert curve(engine, [1.0, 2.0, 3.0], after_step=1) == [(2, 3.0)]


# -- counts ---------------------------------------------------------------------------------------


def test_counts_for_dispatcher_and_prometheus(engine: Engine) -> None:
    for device in ("auto", "auto", "cpu", "gpu"):
        submit_job(engine, resources={"device": device})
    submit_job(engine, run_at=4e9)
    lease = claim_job(engine).lease
    job_in_state(engine, JobState.CANCELLED)
    with write(engine) as conn:
        transitions.fail(
            conn,
            lease,
            outcome=AttemptOutcome.JOB_ERROR,
            error={"type": "bad_data", "message": "", "retryable": False},
        )
    lost = claim_job(engine).lease
    expire_lease(engine, lost.job_id)
    with read(engine) as conn:
        stats = queries.stats(conn)
        due = queries.due_ids(conn)
        assert {queries.get_job(conn, job_id, OWNER)["device"]: device for device, job_id in due.items()} == {
            "cpu": "cpu",
            "gpu": "gpu",
        }
    assert stats.jobs == {
        "waiting": 0,
        "queued": 3,
        "running": 1,
        "paused": 0,
        "succeeded": 0,
        "failed": 1,
        "cancelled": 1,
    }
    assert {outcome: count for outcome, count in stats.attempts.items() if count} == {"job_error": 1}
    assert stats.expired_leases == 1
    assert sorted((one.device, one.priority, one.count) for one in stats.due) == [("cpu", 5, 1), ("gpu", 5, 1)]
    assert all(one.oldest_seconds > 0 for one in stats.due)
    assert stats.submitted["train"] == sum(stats.jobs.values())


def test_what_is_counted_for_prometheus_never_goes_back(engine: Engine) -> None:
    """Deleting jobs takes nothing from a counter, to the last digit."""
    ended = [job_in_state(engine, state) for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED) * 3]
    for number, job_id in enumerate(ended):
        with write(engine) as conn:
            ended_at = jobs.c.started_at + 0.1 * 3**number
            ran = (jobs.c.id == job_id, jobs.c.started_at.is_not(None))
            conn.execute(update(jobs).where(*ran).values(finished_at=ended_at))

    def counters() -> Any:
        with read(engine) as conn:
            stats = queries.stats(conn)
            return queries.durations(conn), stats.submitted, stats.attempts

    before = counters()
    for job_id in ended:
        with write(engine) as conn:
            transitions.delete_job(conn, job_id, OWNER)
        assert counters() == before
    with read(engine) as conn:
        assert not any(queries.stats(conn).jobs.values())


def test_durations_are_counted_into_buckets(engine: Engine) -> None:
    for seconds in (0.5, 4.0, 4.5, 100.0, 1e6):
        job_id = job_in_state(engine, JobState.SUCCEEDED)
        with write(engine) as conn:
            conn.execute(update(jobs).where(jobs.c.id == job_id).values(finished_at=jobs.c.started_at + seconds))
    job_in_state(engine, JobState.RUNNING)
    with read(engine) as conn:
        (found,) = queries.durations(conn)
    assert (found.kind, found.state) == ("train", "succeeded")
    assert found.at_most == (1, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5)
    assert found.seconds == pytest.approx(1_000_109.0)
