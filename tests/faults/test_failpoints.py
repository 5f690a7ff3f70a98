"""An attempt is killed, frozen or failed at every failpoint, on both databases.

Another attempt may bring the job to its end.
Whatever happens, the job ends like one that was never touched (`oracle`): at most one success, no gap, no double row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared import failpoints
from shared.failpoints import FailpointError
from tests.faults.oracle import assert_sound
from tests.support import databases
from tests.support.lone_worker import Cluster, open_cluster

#: Passed by the worker; `@n` is the nth time since it was armed.
OF_THE_WORKER = [
    "claim.after_commit@1",
    "runner.spawned@1",
    "effect.before_commit@1",
    "effect.before_commit@2",
    "checkpoint.before_commit@1",
    "checkpoint.before_commit@2",
    "checkpoint.row_committed@1",
    "checkpoint.row_committed@2",
    "succeed.before_commit@1",
    "succeed.after_commit@1",
]
#: Passed by the runner.
OF_THE_RUNNER = [
    "checkpoint.writing@1",
    "checkpoint.writing@2",
    "checkpoint.tmp_written@1",
    "checkpoint.tmp_written@2",
    "checkpoint.renamed@1",
    "checkpoint.renamed@2",
]
#: Where a transaction is open: frozen there, the worker keeps its lock, so no other worker can take the job meanwhile.
INSIDE = ("effect.before_commit", "checkpoint.before_commit", "succeed.before_commit")
JOB: dict[str, Any] = {"steps": 12, "checkpoint": 4, "pace": 0.005, "register_as": "chain"}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    if request.param == "sqlite":
        url = databases.sqlite_database(folder, request.getfixturevalue("sqlite_template"))
        with open_cluster(folder, url) as cluster:
            yield cluster
        return
    server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
    with databases.postgres_database(server, template) as url, open_cluster(folder, url) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _sound(cluster: Cluster) -> Iterator[None]:
    """The oracle after each fault, over all jobs so far."""
    yield
    assert_sound(cluster.engine, cluster.root, cluster.accepted)


def armed(point: str, action: str) -> str:
    name, _, nth = point.partition("@")
    return f"{name}:{action}@{nth}"


@pytest.mark.parametrize("point", OF_THE_WORKER)
def test_worker_killed(cluster: Cluster, point: str) -> None:
    worker = cluster.target_worker
    worker.arm(armed(point, "kill"))
    job_id = cluster.submit(**JOB, hold_at=6)
    cluster.run_in_two_parts(worker, job_id)
    assert not worker.alive()
    over = cluster.job(job_id).state == "succeeded"  # its last checkpoint may be committed together with its end
    assert over or point != "succeed.after_commit@1"
    assert cluster.finish(job_id).state == "succeeded"
    assert cluster.outcomes(job_id) == (["succeeded"] if over else ["lost", "succeeded"])


@pytest.mark.parametrize("action", ["raise", "enospc"])
@pytest.mark.parametrize("point", OF_THE_WORKER)
def test_worker_fails(cluster: Cluster, point: str, action: str) -> None:
    """An unexpected error in the worker's own code costs an attempt at most."""
    worker = cluster.target_worker
    worker.arm(armed(point, action))
    job_id = cluster.submit(**JOB)
    worker.run()
    assert worker.alive(), "no error ends a worker"
    worker.arm("")
    assert cluster.finish(job_id).state == "succeeded"
    assert len(cluster.outcomes(job_id)) <= 2


@pytest.mark.parametrize("point", [point for point in OF_THE_WORKER if not point.startswith(INSIDE)])
def test_worker_frozen_until_another_has_finished(cluster: Cluster, point: str) -> None:
    """It thinks that it still holds the lease, and goes on in the middle of what it was about."""
    worker = cluster.target_worker
    worker.arm(armed(point, "stop:20"))
    job_id = cluster.submit(**JOB)
    worker.start()
    cluster.frozen(worker)
    assert cluster.finish(job_id).state == "succeeded"
    worker.thaw()
    worker.wait()
    assert cluster.job(job_id).state == "succeeded"
    assert cluster.outcomes(job_id)[-1] == "succeeded"


@pytest.mark.parametrize("point", [point for point in OF_THE_WORKER if point.startswith(INSIDE)])
def test_worker_frozen_inside_a_transaction(cluster: Cluster, point: str) -> None:
    """It holds its row (or SQLite's file) locked: the rescuer passes by, and the attempt goes on when it is thawed."""
    worker = cluster.target_worker
    worker.arm(armed(point, "stop:0.3"))
    job_id = cluster.submit(**JOB)
    worker.run()
    assert cluster.finish(job_id).state == "succeeded"


@pytest.mark.parametrize("action", ["kill", "raise", "enospc", "stop:0.2"])
@pytest.mark.parametrize("point", OF_THE_RUNNER)
def test_runner_fails(cluster: Cluster, point: str, action: str) -> None:
    """At every step of writing a checkpoint: nothing partial is ever listed, and the one before is gone on from."""
    job_id = cluster.submit(failpoint=armed(point, action), **JOB)
    cluster.target_worker.run()
    assert cluster.target_worker.alive()
    assert cluster.finish(job_id).state == "succeeded"
    expected = {"kill": "crashed", "raise": "job_error", "enospc": "succeeded", "stop:0.2": "succeeded"}[action]
    outcomes = cluster.outcomes(job_id)
    on_full_disk = "crashed" if action == "enospc" else expected
    assert outcomes[0] in (expected, on_full_disk), "a disk that is full after the rename ends the attempt"
    assert outcomes[-1] == "succeeded"


@pytest.mark.parametrize("action", ["raise", "enospc"])
def test_rescuer_fails_with_the_job_in_its_hand(cluster: Cluster, action: str) -> None:
    worker = cluster.target_worker
    worker.arm("claim.after_commit:kill")
    job_id = cluster.submit(**JOB)
    worker.run()
    failpoints.arm(f"rescue.selected:{action}")
    try:
        with pytest.raises((FailpointError, OSError)):
            cluster.rescue(job_id)
    finally:
        failpoints.arm("")
    assert cluster.job(job_id).state == "running", "nothing was written by halves"
    assert cluster.finish(job_id).state == "succeeded"
    assert cluster.outcomes(job_id) == ["lost", "succeeded"]
