"""What a claim reads depends on the jobs that the worker can run, not on the length of the queue; on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from shared.clock import db_now, iso
from shared.db.engine import read, write
from shared.db.schema import jobs
from shared.fleet.plugins import InstalledPlugin
from shared.jobs import queries, transitions
from shared.jobs.fronts import fronts, requires
from tests.support.factories import claim_job, make_claimer, submit_job
from tests.support.long_queue import analyzed, lengthen, work_of

#: Jobs that the claimer cannot take, or not yet: fields of the spec, and columns.
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another device": ({"resources": {"device": "gpu"}}, {}),
    "another framework": ({}, {"framework": "tensorflow"}),
    "another family": ({}, {"plugin": "family other"}),
    "next year": ({"run_at": 4e9}, {}),
    "soon, and urgent": ({"priority": 9}, {"run_at": None}),
}


@pytest.mark.parametrize("others", OTHERS)
def test_a_claim_does_not_read_jobs_that_it_cannot_take(engine: Engine, others: str) -> None:
    claimer = make_claimer(frameworks=frozenset({"torch"}))
    lengthen(engine, 10, *OTHERS[others])
    submit_job(engine)
    with analyzed(engine):
        few = work_of(engine, lambda conn: transitions.can_claim(conn, claimer))
    lengthen(engine, 1_000, *OTHERS[others])
    with analyzed(engine):
        many = work_of(engine, lambda conn: transitions.can_claim(conn, claimer))
    assert many < few + 100, "1,000 more jobs are read"


@pytest.mark.parametrize("others", OTHERS)
def test_an_idle_worker_does_not_read_them_either(engine: Engine, others: str) -> None:
    claimer = make_claimer(frameworks=frozenset({"torch"}))
    lengthen(engine, 1_000, *OTHERS[others])
    with analyzed(engine), read(engine) as conn:
        assert not transitions.can_claim(conn, claimer)
        work = work_of(engine, lambda conn: transitions.can_claim(conn, claimer))
    assert work < 900, "each of them is read"


def test_the_dispatcher_does_not_count_the_queue(engine: Engine) -> None:
    lengthen(engine, 10, {})
    with analyzed(engine):
        few = work_of(engine, queries.due_ids)
    lengthen(engine, 1_000, {})
    with analyzed(engine):
        assert work_of(engine, queries.due_ids) < few + 100


def test_a_claim_takes_the_best_of_all_parts(engine: Engine) -> None:
    """By rank, then by id, whatever the parts of the queue are."""
    with read(engine) as conn:
        now = conn.scalars(select(db_now())).one()
    wanted = []
    for place, (framework, priority, waited) in enumerate(
        [("tensorflow", 2, 6_000), ("torch", 9, 100), ("tensorflow", 5, 1_000), ("torch", 5, 900), ("torch", 0, 10)]
    ):
        job_id = submit_job(engine, priority=priority, tags={"place": str(place)}).job_id
        wanted.append(job_id)
        with write(engine) as conn:
            changed = {"run_at": now - waited, "framework": framework}
            conn.execute(update(jobs).where(jobs.c.id == job_id).values(changed))
    submit_job(engine, priority=9, run_at=iso(now + 3_000))
    assert [claim_job(engine).lease.job_id for _ in wanted] == wanted


def test_every_part_of_the_queue_has_a_front(engine: Engine) -> None:
    made = [
        submit_job(engine, resources={"device": device}, priority=priority).job_id
        for device, priority in [("auto", 9), ("gpu", 7), ("auto", 5), ("gpu", 7), ("auto", 5)]
    ]
    submit_job(engine, resources={"device": "cpu"}, run_at=4e9)
    with read(engine) as conn:
        assert [front.job_id for front in fronts(conn)] == made[:3]
        assert queries.due_ids(conn) == {"auto": made[0], "gpu": made[1]}


def test_a_job_of_another_version_hides_none_behind_it(engine: Engine) -> None:
    pinned, free = submit_job(engine).job_id, submit_job(engine).job_id
    with write(engine) as conn:
        conn.execute(update(jobs).values(plugin="family gbm"))
        conn.execute(update(jobs).where(jobs.c.id == pinned).values(plugin_record="old", plugin_state=1))
    claimer = make_claimer()
    gbm = InstalledPlugin("family gbm", "gbm 2", "new", 2)
    with write(engine) as conn:
        assert transitions.claim(conn, claimer, 30.0) is None
        claimed = transitions.claim(conn, _having(claimer, gbm), 30.0)
    assert claimed is not None
    assert claimed.lease.job_id == free


def _having(claimer: transitions.Claimer, plugin: InstalledPlugin) -> transitions.Claimer:
    return transitions.Claimer(**{**vars(claimer), "plugins": (plugin,)})


def test_a_worker_that_leaves_jobs_for_any_device_to_others(engine: Engine) -> None:
    submit_job(engine, priority=9)
    own = submit_job(engine, resources={"device": "cpu"}).job_id
    claimer = replace(make_claimer(), takes_auto=False)
    assert claim_job(engine, claimer).lease.job_id == own
    with read(engine) as conn:
        assert not transitions.can_claim(conn, claimer)
        assert transitions.can_claim(conn, make_claimer())


def test_what_a_job_requires_is_the_same_in_sql_and_in_python(engine: Engine) -> None:
    submit_job(engine, resources={"device": "gpu"})
    with write(engine) as conn:
        submit_job_row = conn.execute(select(jobs.c.requires, jobs.c.framework)).one()
        conn.execute(update(jobs).values(framework=None, plugin="family gbm"))
        changed = conn.scalars(select(jobs.c.requires)).one()
        (front,) = fronts(conn)
    assert submit_job_row.requires == requires("gpu", submit_job_row.framework, None)
    assert (changed, front.requires, front.device) == (requires("gpu", None, "family gbm"), changed, "gpu")
