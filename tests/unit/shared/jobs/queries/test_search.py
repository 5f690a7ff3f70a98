"""Searching, sorting and showing jobs by any value, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select

from nightshift.errors import InvalidRequest
from nightshift.states import JobState
from shared.db.engine import read, write
from shared.db.schema import curve_summaries
from shared.fleet import keys
from shared.jobs import queries, transitions
from shared.jobs.queries import JobFilters
from shared.jobs.queries.available_columns import available_columns
from shared.jobs.queries.columns import parse_key
from shared.jobs.queries.table import TableQuery, jobs_table
from shared.jobs.states import AttemptOutcome
from shared.jobs.transitions import MetricRow
from tests.support.factories import OWNER, job_in_state, running_job, submit_job


def make(
    engine: Engine, name: str, accuracy: float | None = None, losses: tuple[float, ...] = (), **fields: object
) -> str:
    """A job with a curve, and a result if it has an accuracy."""
    lease = running_job(engine, name=name, **fields)
    with write(engine) as conn:
        if losses:
            transitions.record(
                conn, lease, metrics=[MetricRow("loss", step, 0, value) for step, value in enumerate(losses)]
            )
        if accuracy is not None:
            transitions.succeed(conn, lease, result={"metrics": {"test_accuracy": accuracy}}, artifacts=[])
        else:
            transitions.stop(conn, lease, outcome=AttemptOutcome.PAUSED)
    return lease.job_id


@pytest.fixture
def three(engine: Engine) -> Engine:
    make(engine, "good", 0.97, (1.0, 0.2, 0.4), training={"learning_rate": 0.001, "seed": 1}, tags={"team": "vision"})
    make(engine, "bad", 0.90, (2.0, 0.9), training={"learning_rate": 0.1, "optimizer": "sgd"}, tags={"team": "text"})
    make(engine, "none", None, (), training={"learning_rate": 0.01, "grad_clip": 1.0})
    return engine


def names(engine: Engine, search: str = "", sort: str = "created", descending: bool = False) -> list[str]:
    with read(engine) as conn:
        found = jobs_table(conn, OWNER, TableQuery(search=search, sort=sort, descending=descending))
        listed = queries.list_jobs(conn, OWNER, JobFilters(search=search))
    assert {row["name"] for row in listed.items} == {row["name"] for row in found["items"]}, "the API finds the same"
    return [row["name"] for row in found["items"]]


#: Search -> what it finds, oldest first.
FOUND: list[tuple[str, list[str]]] = [
    ("test_accuracy > 0.95", ["good"]),
    ("test_accuracy>=90% -name=good", ["bad"]),
    ("loss < 0.5", ["good"]),
    ("best.loss<0.3", ["good"]),
    ("max.loss >= 2", ["bad"]),
    ("lr < 0.05", ["good", "none"]),
    ("training.optimizer:sgd", ["bad"]),
    ("optimizer=sg", []),
    ("optimizer:sg", ["bad"]),
    ("seed=1", ["good"]),
    ("seed:0,1", ["good", "bad", "none"]),
    ("grad_clip:none", ["good", "bad"]),
    ("grad_clip!=none", ["none"]),
    ("tag:team=vision", ["good"]),
    ("tag:team -tag.team=vision", ["bad"]),
    ("state:paused,failed", ["none"]),
    ("-state:paused bad", ["bad"]),
    ("is:live", ["none"]),
    ("model:linear age<1h duration < 10m created>2020-01-01", ["good", "bad", "none"]),
    ("model.preset:gru", []),
    ('"goo"', ["good"]),
    ("who:nobody", []),
    (f"who:{OWNER} loss > 0.5", ["bad"]),
    ("nothing_of_the_kind > 3", []),
    ("-loss<0.5", ["bad", "none"]),
    ('"', ["good", "bad", "none"]),
]  # fmt: skip


def test_a_search_by_values(three: Engine) -> None:
    for search, found in FOUND:
        assert names(three, search) == found, search


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ("state:broken", "there is no state 'broken'; states: waiting"),
        ("datset:mnist", "did you mean dataset?"),
        ("foo:bar", "there is no field 'foo'"),
        ("test_accuracy >", "needs a value, for example test_accuracy > 0.5"),
        ("age > soon", "age needs a duration"),
        ("created > yesterday", "for example created > 2026-11-01"),
        ("name > 3", "write name:3"),
        ("lr < small", "a number"),
        ("is:good", "is:good is unknown"),
        ("tag > 3", "tag cannot be compared"),
        ("test_accuracy > nan", "a number"),
        ("a " * 30, "at most 20"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_read_says_what_to_write(sqlite_engine: Engine, search: str, told: str) -> None:
    with read(sqlite_engine) as conn, pytest.raises(InvalidRequest) as refused:
        jobs_table(conn, OWNER, TableQuery(search=search))
    assert told in refused.value.detail


def test_who_is_the_name_of_a_key(engine: Engine) -> None:
    with write(engine) as conn:
        owner = keys.create(conn, "Ada Lovelace")[0].owner_id
    submit_job(engine, owner_id=owner)
    with read(engine) as conn:
        found = [jobs_table(conn, None, TableQuery(search=search))["total"] for search in ("who:ada", "-who:ada")]
    assert found == [1, 0]


#: Sort -> rising, falling.
SORTED: list[tuple[str, list[str], list[str]]] = [
    ("test_accuracy", ["bad", "good", "none"], ["good", "bad", "none"]),
    ("loss", ["good", "bad", "none"], ["bad", "good", "none"]),
    ("best.loss", ["good", "bad", "none"], ["bad", "good", "none"]),
    ("lr", ["good", "none", "bad"], ["bad", "none", "good"]),
    ("tag.team", ["bad", "good", "none"], ["good", "bad", "none"]),
]  # fmt: skip


def test_sorted_by_any_value_with_what_has_none_last(three: Engine) -> None:
    for sort, rising, falling in SORTED:
        assert (names(three, sort=sort), names(three, sort=sort, descending=True)) == (rising, falling), sort


def test_columns_of_choice(three: Engine) -> None:
    wanted = (
        "test_accuracy",
        "loss",
        "best.loss",
        "lr",
        "training.optimizer",
        "tag.team",
        "metric.learning_rate",
        "state",
    )
    with read(three) as conn:
        query = TableQuery(search="good", columns=tuple(map(parse_key, wanted)))
        (row,) = jobs_table(conn, OWNER, query)["items"]
        there = available_columns(conn, OWNER)
    assert row["values"] == {
        "test_accuracy": 0.97, "loss": 0.4, "best.loss": 0.2, "lr": 0.001, "training.optimizer": "adam",
        "tag.team": "vision", "metric.learning_rate": None,
    }  # fmt: skip
    assert there["metrics"] == ["loss", "test_accuracy"]
    assert there["best"] == [], "the lowest of a few batches is the best of nothing"
    assert there["tags"] == ["tag.team"]
    assert {"training.learning_rate", "model.preset"} <= set(there["settings"])


@pytest.mark.parametrize("key", ["", "a;b", 'tag."x', "$", "x" * 200])
def test_what_is_no_column_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_key(key)


def test_a_curve_is_summed_up_as_it_grows(engine: Engine) -> None:
    lease = running_job(engine)
    for steps in ({0: 5.0, 1: 1.0}, {2: 3.0}, {1: 9.0}):
        with write(engine) as conn:
            transitions.record(
                conn, lease, metrics=[MetricRow("loss", step, 0, value) for step, value in steps.items()]
            )
    with read(engine) as conn:
        row = conn.execute(select(curve_summaries)).one()
    assert (row.step, row.last, row.lowest, row.highest) == (2, 3.0, 1.0, 9.0)


def test_final_states_are_told_from_live_ones(engine: Engine) -> None:
    for state in (JobState.SUCCEEDED, JobState.QUEUED):
        job_in_state(engine, state, name=state.value)
    assert names(engine, "is:final") == ["succeeded"]
    assert names(engine, "is:live") == ["queued"]
