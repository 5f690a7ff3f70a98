"""Workers that share no folder, only a database and a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared.db.engine import read, write
from shared.db.schema import artifacts, attempts, checkpoints, job_logs
from shared.jobs import transitions
from shared.jobs.states import StopRequest
from tests.support import databases, probe
from tests.support.factories import OWNER, make_due
from tests.support.lone_worker import Cluster, LoneWorker
from tests.support.objects import ABucket, ObjectStore
from tests.support.stack import eventually


class Hosts(Cluster):
    """A victim and a recovery_worker, each with a data folder of its own."""

    def __init__(self, folder: Path, database_url: str, bucket: ABucket, **settings: Any) -> None:
        self.folder, self.bucket = folder, bucket
        super().__init__(folder, database_url, **bucket.values(), **settings)

    def _worker(self, name: str) -> LoneWorker:
        return LoneWorker(name, self.database_url, self.folder / name, **self._settings)

    def cache(self, name: str) -> Path:
        return self.folder / name / "storage-cache"

    def rows(self, table: Any, job_id: str) -> list[Any]:
        with read(self.engine) as conn:
            return list(conn.execute(select(table).where(table.c.job_id == job_id).order_by(*table.primary_key)))

    def ready(self, job_id: str) -> list[Any]:
        """Checkpoints to go on from, newest first."""
        found = [row for row in self.rows(checkpoints, job_id) if row.state == "ready"]
        return sorted(found, key=lambda row: -row.step)

    def logs(self, job_id: str) -> list[str]:
        return [row.message for row in self.rows(job_logs, job_id)]

    def go_on_elsewhere(self, job_id: str) -> None:
        """The recovery_worker takes over a job that is held, and lets it go on."""
        self.rescue(job_id)
        make_due(self.engine, job_id)
        self.recovery_worker.start()
        go = self.cache("recovery_worker") / "jobs" / job_id / "go"
        eventually("the recovery_worker has begun", lambda: go.parent.exists() and self.has_begun(job_id, 2))
        go.touch()
        self.recovery_worker.wait()

    def has_begun(self, job_id: str, fence: int) -> bool:
        """Its runner has said so."""
        return any(row.fence == fence and row.resumed_step is not None for row in self.rows(attempts, job_id))


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, objects: ObjectStore) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    hosts = Hosts(folder, databases.sqlite_database(folder, sqlite_template), objects.bucket())
    try:
        yield hosts
    finally:
        hosts.close()


def _untouched(hosts: Hosts, job_id: str, steps: int) -> bool:
    """Its artifact is in the bucket and is that of a run that nothing happened to."""
    [artifact] = hosts.rows(artifacts, job_id)
    return hosts.bucket.read(artifact.stored_as) == probe.chain(steps).encode()


def test_a_job_runs_and_what_sql_names_is_in_the_bucket(hosts: Hosts) -> None:
    job_id = hosts.submit(steps=12, checkpoint=3)
    assert hosts.finish(job_id).state == "succeeded"
    assert hosts.outcomes(job_id) == ["succeeded"]
    assert _untouched(hosts, job_id, 12)
    assert [row.step for row in hosts.ready(job_id)] == [12, 9]
    for row in hosts.ready(job_id):
        assert hosts.bucket.keys(f"jobs/{job_id}/{row.path}/")


def test_a_killed_run_goes_on_at_another_host(hosts: Hosts) -> None:
    job_id = _stopped_at_8(hosts)
    hosts.go_on_elsewhere(job_id)
    assert hosts.job(job_id).state == "succeeded"
    assert hosts.outcomes(job_id) == ["lost", "succeeded"]
    assert hosts.rows(attempts, job_id)[1].resumed_step == 8
    assert _untouched(hosts, job_id, 20)


def _stopped_at_8(hosts: Hosts) -> str:
    """A job with checkpoints of steps 4 and 8 whose host is gone for good."""
    job_id = hosts.submit(steps=20, checkpoint=4, hold_at=10)
    hosts.target_worker.start()
    eventually("two checkpoints are committed", lambda: len(hosts.ready(job_id)) == 2)
    hosts.target_worker.kill()
    return job_id


@pytest.mark.parametrize("harm", ["flip", "delete"])
def test_of_a_damaged_or_missing_checkpoint_the_one_before_is_used(hosts: Hosts, harm: str) -> None:
    job_id = _stopped_at_8(hosts)
    newest = hosts.ready(job_id)[0]
    getattr(hosts.bucket, harm)(f"jobs/{job_id}/{newest.path}/state.json")
    hosts.go_on_elsewhere(job_id)
    assert hosts.job(job_id).state == "succeeded"
    assert hosts.rows(attempts, job_id)[1].resumed_step == 4
    assert [row.state for row in hosts.rows(checkpoints, job_id) if row.id == newest.id] == ["quarantined"]
    assert _untouched(hosts, job_id, 20)


def test_a_job_that_ends_waits_for_a_store_that_is_away(hosts: Hosts, objects: ObjectStore) -> None:
    job_id = hosts.submit(steps=20, checkpoint=4, hold_at=10)
    hosts.recovery_worker.start()
    eventually("two checkpoints are committed", lambda: len(hosts.ready(job_id)) == 2)
    objects.stop()
    try:
        (hosts.cache("recovery_worker") / "jobs" / job_id / "go").touch()
        eventually("it says that it waits", lambda: any("waits for the storage" in line for line in hosts.logs(job_id)))
        assert hosts.job(job_id).state == "running"
        assert [row.step for row in hosts.ready(job_id)] == [8, 4], "no row of what the store does not have"
    finally:
        objects.start()
    hosts.recovery_worker.wait()
    assert hosts.job(job_id).state == "succeeded"
    assert hosts.outcomes(job_id) == ["succeeded"]
    assert _untouched(hosts, job_id, 20)


def test_a_cancel_does_not_wait_for_the_store(hosts: Hosts, objects: ObjectStore) -> None:
    job_id = hosts.submit(steps=20, checkpoint=4, hold_at=10)
    hosts.recovery_worker.start()
    eventually("two checkpoints are committed", lambda: len(hosts.ready(job_id)) == 2)
    objects.stop()
    try:
        (hosts.cache("recovery_worker") / "jobs" / job_id / "go").touch()
        eventually("it says that it waits", lambda: any("waits for the storage" in line for line in hosts.logs(job_id)))
        with write(hosts.engine) as conn:
            transitions.request_stop(conn, job_id, StopRequest.CANCEL, OWNER)
        hosts.recovery_worker.wait()
    finally:
        objects.start()
    assert hosts.job(job_id).state == "cancelled"
    assert hosts.rows(artifacts, job_id) == []


def test_a_job_that_begins_while_the_store_is_away_is_not_charged(
    tmp_path: Path, sqlite_url: str, objects: ObjectStore
) -> None:
    hosts = Hosts(tmp_path, sqlite_url, objects.bucket(), slot_wait_seconds=0.5)
    try:
        job_id = hosts.submit(steps=3)
        objects.stop()
        try:
            hosts.recovery_worker.run()
        finally:
            objects.start()
        assert hosts.job(job_id).state == "queued"
        assert (hosts.job(job_id).retries, hosts.job(job_id).lost_streak) == (0, 0)
        assert hosts.finish(job_id).state == "succeeded"
    finally:
        hosts.close()
