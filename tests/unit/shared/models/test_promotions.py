"""A promotion moves its alias with the job's success or not at all, and only from the version it was compared with."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select

from nightshift.errors import NotFound
from shared.db.engine import read, write
from shared.db.schema import job_events, jobs, model_aliases, model_versions
from shared.errors import LeaseLost
from shared.jobs import queries, transitions
from shared.jobs.transitions import ArtifactRecord, ModelVersionRecord, PromotionRecord
from shared.models import aliases, registry
from tests.support.factories import OWNER, expire_lease, running_job

WEIGHTS = ArtifactRecord("model/model.safetensors", "jobs/x", "a" * 64, 10, "application/octet-stream")


def promotion(**fields: Any) -> PromotionRecord:
    told = {"alias": "champion", "metric": "test_accuracy", "evaluated_on": "digits@1", "better": True}
    told |= {"reason": "better by 0.1", "previous": None, "candidate": 0.9, "champion": None}
    return PromotionRecord(**{**told, **fields})


def succeed(engine: Engine, lease: transitions.Lease, **fields: Any) -> dict[str, Any]:
    """The job's result."""
    register = ModelVersionRecord("m", "cnn", "torch", "digits@1", promotion=promotion(**fields))
    with write(engine) as conn:
        assert transitions.succeed(conn, lease, result={"metrics": {}}, artifacts=[WEIGHTS], register=register)
    with read(engine) as conn:
        found = queries.get_job(conn, lease.job_id, OWNER)["result"]
    return dict(found)


def pointed_at(engine: Engine, alias: str = "champion") -> int | None:
    with read(engine) as conn:
        return aliases.current(conn, "m", alias)


def events(engine: Engine, job_id: str) -> list[Any]:
    with read(engine) as conn:
        return list(conn.execute(select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.seq)))


def test_the_first_version_is_promoted_and_the_job_says_why(engine: Engine) -> None:
    lease = running_job(engine)
    result = succeed(engine, lease, reason="no champion yet")
    assert (result["promoted"], result["promotion"]["reason"]) == (True, "no champion yet")
    assert result["model"]["registered"] == "m@1"
    assert pointed_at(engine) == 1
    *_, artifact, promoted, state = events(engine, lease.job_id)
    assert [artifact.type, promoted.type, state.type] == ["artifact", "promotion", "state"]
    assert [promoted.seq - artifact.seq, state.seq - promoted.seq] == [1, 1]
    with read(engine) as conn:
        assert conn.scalar(select(jobs.c.event_seq).where(jobs.c.id == lease.job_id)) == state.seq
    assert promoted.data == {
        "name": "m", "alias": "champion", "version": 1, "previous": None, "promoted": True, "reason": "no champion yet",
        "metric": "test_accuracy", "candidate": 0.9, "champion": None, "lower_bound": None, "evaluated_on": "digits@1",
    }  # fmt: skip


def test_a_better_one_takes_over_and_the_audit_has_it(engine: Engine) -> None:
    succeed(engine, running_job(engine))
    lease = running_job(engine)
    succeed(engine, lease, previous=1, champion=0.8, reason="0.9 against 0.8")
    assert pointed_at(engine) == 2
    with read(engine) as conn:
        newest = aliases.history(conn, "m").items[0]
    assert (newest["from_version"], newest["to_version"]) == (1, 2)
    assert (newest["who"], newest["why"]) == (f"job:{lease.job_id}", "0.9 against 0.8")


def test_one_that_is_no_better_is_registered_and_stays_behind(engine: Engine) -> None:
    succeed(engine, running_job(engine))
    result = succeed(engine, running_job(engine), previous=1, champion=0.95, better=False, reason="worse by 0.05")
    assert (result["promoted"], result["promotion"]["reason"]) == (False, "worse by 0.05")
    assert result["promotion"]["previous"] == 1
    assert pointed_at(engine) == 1
    with read(engine) as conn:
        assert set(conn.scalars(select(model_versions.c.version))) == {1, 2}
        assert len(aliases.history(conn, "m").items) == 1


def test_a_first_version_that_cannot_be_judged_does_not_become_champion(engine: Engine) -> None:
    result = succeed(engine, running_job(engine), better=False, candidate=None, reason="cannot be judged")
    assert result["promoted"] is False
    assert pointed_at(engine) is None


def test_a_champion_that_came_meanwhile_has_not_been_beaten(engine: Engine) -> None:
    for _ in range(2):
        succeed(engine, running_job(engine), previous=None if pointed_at(engine) is None else 1)
    lease = running_job(engine)
    with write(engine) as conn:
        aliases.rollback(conn, "m", "champion", who=OWNER)
    result = succeed(engine, lease, previous=2, champion=0.8)
    assert result["promoted"] is False
    assert "moved from version 2 to 1 during" in result["promotion"]["reason"]
    assert pointed_at(engine) == 1


def test_of_two_first_versions_one_is_refused(engine: Engine) -> None:
    first, second = running_job(engine), running_job(engine)
    assert succeed(engine, first)["promoted"] is True
    late = succeed(engine, second)
    assert late["promoted"] is False
    assert "was set to version 1" in late["promotion"]["reason"]


def test_another_alias_is_moved_alone(engine: Engine) -> None:
    succeed(engine, running_job(engine), alias="live")
    succeed(engine, running_job(engine), alias="live", previous=1, champion=0.5)
    assert (pointed_at(engine), pointed_at(engine, "live")) == (1, 2)


def test_a_stale_attempt_promotes_nothing(engine: Engine) -> None:
    lease = running_job(engine)
    expire_lease(engine, lease.job_id)
    with write(engine) as conn:
        transitions.rescue(conn, job_id=lease.job_id, seen_fence=1, poison_limit=3)
    with pytest.raises(LeaseLost):
        succeed(engine, lease)
    with read(engine) as conn:
        assert conn.execute(select(model_aliases)).all() == []
        assert conn.execute(select(model_versions)).all() == []


def test_what_stops_the_success_stops_the_promotion(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = running_job(engine)

    def burst(name: str) -> None:
        if name == "succeed.before_commit":
            raise RuntimeError(name)

    monkeypatch.setattr("shared.jobs.transitions.endings.failpoint", burst)
    with pytest.raises(RuntimeError, match="before_commit"):
        succeed(engine, lease)
    assert pointed_at(engine) is None
    with read(engine) as conn:
        with pytest.raises(NotFound):
            registry.show_model(conn, "m")
        assert queries.get_job(conn, lease.job_id, OWNER)["state"] == "running"
