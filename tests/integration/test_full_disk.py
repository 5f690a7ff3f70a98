"""A worker whose disk is full says so, leaves the jobs to others, and takes them again once there is room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from shared.db.engine import read
from shared.db.schema import workers
from shared.fleet.workers import DISK_FULL
from shared.jobs import queries
from shared.jobs.explain import explain
from tests.support.paths import ROOT
from tests.support.redis import running_redis
from tests.support.stack import Stack, eventually, open_stack

LEASE = 300.0
#: Lets jobs be probes, and the disk of a worker be full while a file of its name lies beside this one.
CUSTOMIZE = """
import os, shutil, sys
from tests.support.takeover import take_over

take_over("tests.support.probe")
real, folder = shutil.disk_usage, os.path.dirname(__file__)

def usage(path):
    found = real(path)
    full = os.path.exists(os.path.join(folder, "cpu" + sys.argv[-1]))
    return found._replace(free=2_000_000) if full else found

shutil.disk_usage = usage
"""


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    """Return the folder where a file fills the disk of the worker of its name."""
    folder = tmp_path / "disks"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CUSTOMIZE)
    return folder


@pytest.fixture
def stack(tmp_path: Path, sqlite_url: str, disks: Path) -> Iterator[Stack]:
    packages = os.pathsep.join([str(disks), str(ROOT)])
    settings = {"lease_seconds": LEASE, "heartbeat_seconds": 0.2, "kinds": "", "packages": packages}
    with running_redis(tmp_path) as redis, open_stack(tmp_path, sqlite_url, redis.url, **settings) as stack:
        yield stack


def in_state(stack: Stack, name: str, state: str) -> str | None:
    """Wait until a worker is in a state, and return the reason."""

    def row() -> tuple[str, str | None]:
        with read(stack.engine) as conn:
            found = conn.execute(select(workers.c.state, workers.c.left_because).where(workers.c.name == name)).one()
        return found.state, found.left_because

    eventually(f"{name} is {state}", lambda: row()[0] == state)
    return row()[1]


def test_the_other_worker_gets_the_jobs_and_both_full_ones_are_the_reason_to_wait(stack: Stack, disks: Path) -> None:
    for index in range(2):
        stack.worker(index)
    (disks / "cpu0").touch()
    because = in_state(stack, "cpu0@test", DISK_FULL)
    assert because is not None
    assert because.startswith("2.0 MB of the disk of ")
    for _ in range(4):
        assert stack.finished(stack.submit("train", steps=2)).state == "succeeded"
    assert {row.worker for job_id in stack.all_ids() for row in stack.attempts(job_id)} == {"cpu1@test"}
    (disks / "cpu1").touch()
    in_state(stack, "cpu1@test", DISK_FULL)
    job_id = stack.submit("train", steps=2)
    with read(stack.engine) as conn:
        found = explain(job := queries.get_job(conn, job_id, None), queries.explain_context(conn, job, LEASE))
    assert [reason.code for reason in found.reasons] == ["disk_full"]
    (disks / "cpu0").unlink()
    assert in_state(stack, "cpu0@test", "online") is None
    assert stack.finished(job_id).state == "succeeded", "its doorbell has waited in the queue"
