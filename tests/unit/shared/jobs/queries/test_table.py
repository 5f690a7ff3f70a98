"""The table of jobs and its small pictures, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from nightshift.states import JobState
from shared.db.engine import read, write
from shared.fleet import keys
from shared.jobs import queries, transitions
from shared.jobs.queries import cursors
from shared.jobs.queries.curves import curves
from shared.jobs.queries.sparklines import POINTS, sparklines
from shared.jobs.queries.table import SORTS, TableQuery, datasets_used, jobs_table
from shared.jobs.transitions import MetricRow
from tests.support.factories import OWNER, job_in_state, running_job, submit_job


def record(engine: Engine, name: str, steps: range, job_name: str = "one") -> str:
    lease = running_job(engine, name=job_name)
    with write(engine) as conn:
        transitions.record(conn, lease, metrics=[MetricRow(name, step, 0, float(step)) for step in steps])
    return lease.job_id


def test_a_picture_has_both_ends_and_few_points(engine: Engine) -> None:
    long = record(engine, "loss", range(0, 9000, 3))
    short = record(engine, "g_loss", range(5, 8))
    without = submit_job(engine).job_id
    with read(engine) as conn:
        found = sparklines(conn, [long, short, without])
        assert sparklines(conn, []) == {}
    assert found.keys() == {long, short}
    assert found[short] == {"name": "g_loss", "points": [[5, 5.0], [6, 6.0], [7, 7.0]]}
    points = found[long]["points"]
    assert (points[0], points[-1]) == ([0, 0.0], [8997, 8997.0])
    assert POINTS - 2 <= len(points) <= POINTS
    assert points == sorted(points)


def test_the_main_curve_is_the_loss(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        rows = [MetricRow(name, 1, 0, 1.0) for name in ("accuracy", "loss", "samples_per_second", "val_loss")]
        transitions.record(conn, lease, metrics=rows)
    with read(engine) as conn:
        assert sparklines(conn, [lease.job_id])[lease.job_id]["name"] == "loss"


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_shows_every_job_once(engine: Engine, sort: str) -> None:
    made = {
        job_in_state(engine, state, name=state.value.upper()) for state in JobState if state is not JobState.WAITING
    }
    for descending in (True, False):
        with read(engine) as conn:
            pages = [
                jobs_table(conn, OWNER, TableQuery(sort=sort, descending=descending, page=page, limit=4))
                for page in (1, 2)
            ]
        ids = [row["id"] for page in pages for row in page["items"]]
        assert (len(ids), set(ids)) == (len(made), made)
        assert pages[0]["counts"] == {state.value: int(state is not JobState.WAITING) for state in JobState}


def test_only_ones_own_unless_asked_for_everyones(engine: Engine) -> None:
    with write(engine) as conn:
        owner = keys.create(conn, "Ada")[0].owner_id
    submit_job(engine, owner_id=owner, dataset="digits")
    submit_job(engine, dataset="mnist")
    with read(engine) as conn:
        assert [row["who"] for row in jobs_table(conn, owner, TableQuery())["items"]] == ["Ada"]
        assert {row["who"] for row in jobs_table(conn, None, TableQuery())["items"]} == {"Ada", OWNER}
        assert datasets_used(conn, owner) == ["digits"]
        assert datasets_used(conn, None) == ["digits", "mnist"]


def test_a_search_is_for_words_anywhere(engine: Engine) -> None:
    submit_job(engine, name="Digits_nightly", tags={"team": "vision"})
    submit_job(engine, name="digits-nightly")
    with read(engine) as conn:
        found = {
            words: [row["name"] for row in jobs_table(conn, OWNER, TableQuery(search=words))["items"]]
            for words in ("DIGITS_", "vision nightly", "vision daily", "cnn", "\\", "'; --")
        }
    assert found["DIGITS_"] == found["vision nightly"] == ["Digits_nightly"]
    assert len(found["cnn"]) == 2
    assert found["vision daily"] == found["\\"] == found["'; --"] == []


def test_two_digits_are_no_beginning_of_an_id(engine: Engine) -> None:
    job_id = submit_job(engine, name="x").job_id
    with read(engine) as conn:
        found = [jobs_table(conn, OWNER, TableQuery(search=job_id[:letters]))["total"] for letters in (2, 4, 32)]
    assert found == [0, 1, 1]


def test_curves_as_columns(engine: Engine) -> None:
    job_id = record(engine, "loss", range(2000))
    with read(engine) as conn:
        found = curves(conn, job_id, 50)
    assert found.keys() == {"loss"}
    assert {len(column) for column in found["loss"].values()} == {len(found["loss"]["step"])}
    assert len(found["loss"]["step"]) <= 50
    assert (found["loss"]["step"][0], found["loss"]["value"][-1]) == (0, 1999.0)


def test_points_far_apart_are_thinned_without_overflow(engine: Engine) -> None:
    job_id = record(engine, "loss", range(0, 2**52, 2**45))
    with read(engine) as conn:
        assert len(curves(conn, job_id, 20)["loss"]["step"]) <= 20
        assert sparklines(conn, [job_id])[job_id]["points"][-1][0] == 2**52 - 2**45


def test_pages_of_points_have_no_gap(engine: Engine) -> None:
    lease = running_job(engine)
    with write(engine) as conn:
        rows = [MetricRow(name, step, 0, 1.0) for name in ("a", "b") for step in range(5)]
        transitions.record(conn, lease, metrics=rows)
    seen: list[tuple[str, int]] = []
    with read(engine) as conn:
        while page := queries.metrics(conn, lease.job_id, limit=3, after=seen[-1] if seen else None):
            seen += [(point["name"], point["step"]) for point in page]
    assert seen == [(row.name, row.step) for row in rows]
    assert cursors.decode("metrics", cursors.encode("metrics", "a", 3), str, int) == ("a", 3)
