"""Workers that share no folder, only a database and a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared.db.engine import read
from shared.db.schema import artifacts, attempts, checkpoints
from tests.support import probe
from tests.support.factories import make_due
from tests.support.house import eventually
from tests.support.lone import LoneWorker, World
from tests.support.objects import ABucket, ObjectStore


class Hosts(World):
    """A victim and a healer, each with a data folder of its own."""

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

    def go_on_elsewhere(self, job_id: str) -> None:
        """The healer takes over a job that is held, and lets it go on."""
        self.rescue(job_id)
        make_due(self.engine, job_id)
        self.healer.start()
        go = self.cache("healer") / "jobs" / job_id / "go"
        eventually("the healer has begun", lambda: go.parent.exists() and self.has_begun(job_id, 2))
        go.touch()
        self.healer.wait()

    def has_begun(self, job_id: str, fence: int) -> bool:
        """Its runner has said so."""
        return any(row.fence == fence and row.resumed_step is not None for row in self.rows(attempts, job_id))


@pytest.fixture
def hosts(tmp_path: Path, sqlite_url: str, objects: ObjectStore) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path, sqlite_url, objects.bucket())
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
    job_id = hosts.submit(steps=20, checkpoint=4, hold_at=10)
    hosts.victim.start()
    eventually("two checkpoints are committed", lambda: len(hosts.ready(job_id)) == 2)
    hosts.victim.kill()
    hosts.go_on_elsewhere(job_id)
    assert hosts.job(job_id).state == "succeeded"
    assert hosts.outcomes(job_id) == ["lost", "succeeded"]
    assert hosts.rows(attempts, job_id)[1].resumed_step == 8
    assert _untouched(hosts, job_id, 20)
