"""A worker dies at the very moment it hears that its job shall stop: the request is in SQL, so the next one keeps
it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.db.engine import read, write
from shared.jobs import queries, transitions
from shared.jobs.states import StopRequest
from tests.faults.oracle import assert_sound
from tests.support import databases
from tests.support.factories import OWNER
from tests.support.lone_worker import Cluster, open_cluster
from tests.support.stack import eventually


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with open_cluster(folder, databases.sqlite_database(folder, sqlite_template)) as cluster:
        yield cluster


def _dies_when_it_sees(cluster: Cluster, request: StopRequest) -> str:
    """A held job of 12 steps with a checkpoint of step 4, whose worker is killed as it hears the request."""
    worker = cluster.target_worker
    worker.arm(f"{request.value}.seen:kill")
    job_id = cluster.submit(steps=12, checkpoint=4, hold_at=6)
    worker.start()
    eventually("it holds", lambda: (cluster.job(job_id).progress or {}).get("step", 0) >= 6)
    eventually("its checkpoint is listed", lambda: cluster.job(job_id).checkpoint_id)
    with write(cluster.engine) as conn:
        transitions.request_stop(conn, job_id, request, None if request is StopRequest.PREEMPT else OWNER)
    eventually("the worker is dead", lambda: not worker.alive())
    worker.wait()
    cluster.rescue(job_id)
    (cluster.root / "jobs" / job_id / "go").touch()
    return job_id


@pytest.mark.parametrize(
    ("request_", "state", "outcomes"),
    [
        (StopRequest.CANCEL, "cancelled", ["lost"]),
        (StopRequest.FINISH, "succeeded", ["lost", "succeeded"]),
        (StopRequest.PREEMPT, "succeeded", ["lost", "succeeded"]),
    ],
)
def test_worker_killed_when_it_sees_the_request(
    cluster: Cluster, request_: StopRequest, state: str, outcomes: list[str]
) -> None:
    job_id = _dies_when_it_sees(cluster, request_)
    assert cluster.finish(job_id).state == state
    assert cluster.outcomes(job_id) == outcomes
    if request_ is not StopRequest.FINISH:  # a run that was told to finish has fewer steps than it was planned
        assert_sound(cluster.engine, cluster.root, [job_id])


def test_worker_killed_when_it_sees_a_pause(cluster: Cluster) -> None:
    job_id = _dies_when_it_sees(cluster, StopRequest.PAUSE)
    assert cluster.job(job_id).state == "paused"
    with write(cluster.engine) as conn:
        transitions.resume(conn, job_id, OWNER)
    assert cluster.finish(job_id).state == "succeeded"
    with read(cluster.engine) as conn:
        last = queries.attempts(conn, job_id)[0]
    assert (last["outcome"], last["resumed_step"]) == ("succeeded", 4)
