"""A worker is killed or frozen around the transaction that promotes: the alias moves once, with one line in the
audit."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from shared.db.engine import read
from shared.db.schema import job_events, model_changes
from shared.models import aliases
from tests.faults.test_failpoints import _sound, armed, cluster  # noqa: F401 - fixtures
from tests.support.lone_worker import Cluster

PROMOTE = {"metric": "test_accuracy", "evaluate_on": "digits"}
JOB: dict[str, Any] = {"steps": 6, "checkpoint": 3, "pace": 0.005, "register_as": "promoted", "promote": PROMOTE}


def assert_promoted_once(cluster: Cluster, job_id: str) -> None:  # noqa: F811
    assert cluster.finish(job_id).state == "succeeded"
    with read(cluster.engine) as conn:
        moves = conn.execute(select(model_changes).where(model_changes.c.who == f"job:{job_id}")).all()
        told = conn.scalars(
            select(job_events.c.data).where(job_events.c.job_id == job_id, job_events.c.type == "promotion")
        ).all()
        champion = aliases.current(conn, "promoted", "champion")
    assert [(move.from_version, move.to_version) for move in moves] == [(told[0]["previous"], told[0]["version"])]
    assert (len(told), told[0]["promoted"], told[0]["version"]) == (1, True, champion)
    assert cluster.job(job_id).result["promoted"] is True


@pytest.mark.parametrize("point", ["effect.before_commit@2", "succeed.before_commit@1", "succeed.after_commit@1"])
def test_worker_killed(cluster: Cluster, point: str) -> None:  # noqa: F811
    worker = cluster.target_worker
    worker.arm(armed(point, "kill"))
    job_id = cluster.submit(**JOB, hold_at=4)
    cluster.run_in_two_parts(worker, job_id)
    assert not worker.alive()
    assert_promoted_once(cluster, job_id)


def test_worker_frozen_until_another_has_promoted(cluster: Cluster) -> None:  # noqa: F811
    """It comes back with a comparison of its own, and its fence is stale."""
    worker = cluster.target_worker
    worker.arm(armed("checkpoint.row_committed@2", "stop:20"))
    job_id = cluster.submit(**JOB)
    worker.start()
    cluster.frozen(worker)
    cluster.finish(job_id)
    worker.thaw()
    worker.wait()
    assert_promoted_once(cluster, job_id)
